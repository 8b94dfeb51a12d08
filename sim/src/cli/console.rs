//! Where a command writes: results to one stream, everything else to the other.
//!
//! A reader that goes away (`| head`) is no error: what is written after that is dropped, and the exit code stays what
//! the command found. A result that cannot be written for any other reason is an error, told at the end. Progress bars
//! are drawn only for a person.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

pub struct Console<'a> {
    out: Box<dyn Write + 'a>,
    err: Box<dyn Write + 'a>,
    bars: bool,
    program: String,
    /// Why a result was not written.
    lost: Option<io::Error>,
}

impl Console<'_> {
    /// The process's own streams.
    pub fn standard() -> Console<'static> {
        Console {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            bars: std::io::stderr().is_terminal(),
            program: "tourbillon".to_owned(),
            lost: None,
        }
    }
}

impl<'a> Console<'a> {
    /// Streams of the caller's, without progress bars.
    pub fn to(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Console<'a> {
        let program = "tourbillon".to_owned();
        Console { out: Box::new(out), err: Box::new(err), bars: false, program, lost: None }
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
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.note(written);
    }

    /// A result in pieces, as long as somebody reads.
    pub(super) fn print_lines(&mut self, mut lines: impl Iterator<Item = String>) {
        let mut out = BufWriter::new(&mut self.out);
        let written = lines.try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
        drop(out);
        self.note(written);
    }

    fn note(&mut self, written: io::Result<()>) {
        let failed = written.err().filter(|error| error.kind() != ErrorKind::BrokenPipe);
        self.lost = self.lost.take().or(failed);
    }

    /// Why a result was not written, if one was not, and somebody waits for it.
    pub(super) fn lost(&self) -> Option<&io::Error> {
        self.lost.as_ref()
    }

    pub(super) fn print_json(&mut self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).expect("a report has no maps with keys that are not strings");
        self.print(&(text + "\n"));
    }

    /// A line that is not a result.
    pub(super) fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }

    /// A line that stands in for the bars where none are drawn.
    pub(super) fn stage(&mut self, line: &str) {
        if !self.bars {
            self.say(line);
        }
    }

    /// A bar for so many of something.
    pub(super) fn bar(&self, count: u64, of_what: &str) -> ProgressBar {
        let target = if self.bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = "{prefix:>10} {wide_bar} {human_pos} of {human_len}, {eta} left {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        ProgressBar::with_draw_target(Some(count), target).with_style(style).with_prefix(of_what.to_owned())
    }

    /// A line that changes as long as something goes on.
    pub(super) fn status(&self) -> ProgressBar {
        let target = if self.bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{msg}").expect("the template is well-formed");
        ProgressBar::with_draw_target(None, target).with_style(style)
    }
}
