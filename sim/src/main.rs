use std::process::ExitCode;
use tourbillon::cli::{self, Console};

fn main() -> ExitCode {
    cli::main(std::env::args_os(), &mut Console::standard()).into()
}
