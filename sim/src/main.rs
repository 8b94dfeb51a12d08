//! The command `tourbillon`. What it does is the library's affair; here are the process's own streams and its end.

use nix::fcntl::{FcntlArg, fcntl};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use tourbillon::cli::{self, Console, Exit};
use tourbillon::postgres::interrupt;

/// Whoever called this process closed its standard output.
static IS_OUTPUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before Rust's runtime, which opens `/dev/null` in the place of a stream that is closed: after that, all that is
/// written is lost without an error.
#[used]
#[expect(unsafe_code, reason = "the runtime offers no place before its own beginning")]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static BEFORE_THE_RUNTIME: extern "C" fn() = {
    extern "C" fn look() {
        IS_OUTPUT_CLOSED.store(fcntl(std::io::stdout(), FcntlArg::F_GETFD).is_err(), Ordering::Relaxed);
    }
    look
};

fn main() -> ExitCode {
    if IS_OUTPUT_CLOSED.load(Ordering::Relaxed) {
        eprintln!("error: standard output is closed, so that no result could be written");
        return Exit::CouldNotRun.into();
    }
    interrupt::watch();
    let exit = cli::main(std::env::args_os(), &mut Console::standard());
    interrupt::finish();
    exit.into()
}
