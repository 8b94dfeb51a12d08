use std::process::ExitCode;
use tourbillon::cli::{self, Console};
use tourbillon::postgres::interrupt;

fn main() -> ExitCode {
    interrupt::watch();
    let exit = cli::main(std::env::args_os(), &mut Console::standard());
    interrupt::finish();
    exit.into()
}
