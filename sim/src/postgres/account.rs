//! The account that server processes run as, and commands under it.
//!
//! PostgreSQL refuses to run as root, so root lends it an unprivileged account; everybody else runs it as themselves.
//! It is not a security boundary. Invariant: every file of a cluster but the owner's lock belongs to this account, and
//! so does its watchdog, which therefore needs no right that the server has not.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{User, getegid, geteuid};

use super::Error;

/// Who runs the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
    /// We are root and lend the account; otherwise it is our own.
    pub lent: bool,
}

impl Account {
    /// Ourselves or, for root, `postgres` or `nobody`.
    pub fn choose() -> Result<Account, Error> {
        if !geteuid().is_root() {
            return Ok(Account { uid: geteuid().as_raw(), gid: getegid().as_raw(), lent: false });
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Account { uid: user.uid.as_raw(), gid: user.gid.as_raw(), lent: true })
            .ok_or_else(|| {
                Error::Unavailable(
                    "PostgreSQL does not run as root and there is neither a user `postgres` nor `nobody` to run it as: \
                     create one or run as an ordinary user"
                        .into(),
                )
            })
    }

    /// Gives `path` to the account.
    pub fn give(self, path: &Path) -> std::io::Result<()> {
        if self.lent { chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// A command of this account in `directory`, out of reach of the terminal's Ctrl-C, which is ours to handle, and of
    /// settings in `PG…` variables, time zone and locale.
    pub fn command(self, program: impl AsRef<Path>, directory: &Path) -> Command {
        let mut command = Command::new(program.as_ref());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").env("TZ", "UTC").current_dir(directory).process_group(0).stdin(Stdio::null());
        if self.lent {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }
}

/// Runs `command` to its end; the error is a sentence that ends in the last line it printed.
pub(super) fn run(mut command: Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| Error::Unavailable(format!("{program} cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let reason = text.lines().rfind(|line| line.contains("error")).or(text.lines().last()).unwrap_or("no message");
    Err(Error::Unavailable(format!("{program} failed ({}): {}", output.status, reason.trim())))
}
