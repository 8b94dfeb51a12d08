//! Where a command writes: results to one stream, everything else to the other.
//!
//! A reader that goes away (`| head`) is no error: what is written after that is dropped, and the exit code stays what
//! the command found. Progress bars are drawn only for a person.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{BufWriter, IsTerminal, Write};

pub struct Console<'a> {
    out: Box<dyn Write + 'a>,
    err: Box<dyn Write + 'a>,
    bars: bool,
    program: String,
}

impl Console<'_> {
    /// The process's own streams.
    pub fn standard() -> Console<'static> {
        Console {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            bars: std::io::stderr().is_terminal(),
            program: "tourbillon".to_owned(),
        }
    }
}

impl<'a> Console<'a> {
    /// Streams of the caller's, without progress bars.
    pub fn to(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Console<'a> {
        Console { out: Box::new(out), err: Box::new(err), bars: false, program: "tourbillon".to_owned() }
    }

    pub(super) fn set_program(&mut self, called: Option<String>) {
        // Set for what cargo runs; there the program's own path is not what the user typed.
        let by_cargo = std::env::var_os("CARGO_PKG_NAME").is_some();
        let cargo = || if cfg!(debug_assertions) { "cargo run --" } else { "cargo run --release --" }.to_owned();
        self.program = if by_cargo { cargo() } else { called.unwrap_or_else(|| "tourbillon".to_owned()) };
    }

    /// A command that the user can copy.
    pub(super) fn command(&self, arguments: &str) -> String {
        format!("{} {arguments}", self.program)
    }

    /// A result, with its last newline.
    pub(super) fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    /// A result in pieces, as long as somebody reads.
    pub(super) fn print_lines(&mut self, lines: impl Iterator<Item = String>) {
        let mut out = BufWriter::new(&mut self.out);
        for line in lines {
            if writeln!(out, "{line}").is_err() {
                return;
            }
        }
        let _ = out.flush();
    }

    pub(super) fn print_json(&mut self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).expect("a report has no maps with keys that are not strings");
        self.print(&(text + "\n"));
    }

    /// A line that is not a result.
    pub(super) fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }

    /// A bar for so many of something.
    pub(super) fn bar(&self, count: u64, of_what: &str) -> ProgressBar {
        let target = if self.bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = "{prefix:>10} {wide_bar} {human_pos} of {human_len}, {eta} left {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        ProgressBar::with_draw_target(Some(count), target).with_style(style).with_prefix(of_what.to_owned())
    }
}
