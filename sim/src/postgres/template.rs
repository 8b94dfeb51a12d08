//! The data directory that every cluster starts from, made once by `initdb` and copied.
//!
//! A copy takes a tenth of the time of `initdb`. What it is not: it is never started, and never trusted: temporary
//! directories are cleaned file by file behind our back. Invariant: a data directory handed out has exactly the files
//! and bytes that `initdb` left.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::account::{Account, run};
use super::binaries::Binaries;

const INITDB: [&str; 9] = ["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C", "--wal-segsize=1", "-U", "postgres"];

/// Fills `directory/data`. Several processes may do so at once: a template is built privately and renamed into place.
pub(super) fn furnish(binaries: &Binaries, account: Account, directory: &Path) -> Result<(), Error> {
    let template = path(binaries, account, directory);
    let work = Work { binaries, account, directory, template: &template };
    for attempt in 0..3 {
        if template.exists() {
            work.check_owner()?;
            if work.copy()? {
                return Ok(());
            }
            // Half of it is gone. Another process may just have replaced it, and then loses a good one: a rebuild.
            let _ = fs::rename(&template, directory.join(format!("broken-{attempt}")));
        }
        work.build()?;
    }
    Err(Error::Unavailable(format!("{} cannot be copied whole: remove it", template.display())))
}

/// Beside the cluster's directory, so that a rename gets there; named after all that its content depends on.
fn path(binaries: &Binaries, account: Account, directory: &Path) -> PathBuf {
    let origin = binaries.directory.to_string_lossy();
    let readable: String = format!("{}-{}-{origin}", account.uid, binaries.version)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(200)
        .collect();
    directory.with_file_name(format!("tourbillon-template-{readable}"))
}

struct Work<'a> {
    binaries: &'a Binaries,
    account: Account,
    directory: &'a Path,
    template: &'a Path,
}

impl Work<'_> {
    /// Anyone may create a directory of this name in a shared temporary directory.
    fn check_owner(&self) -> Result<(), Error> {
        let trusted = fs::symlink_metadata(self.template).is_ok_and(|it| it.is_dir() && it.uid() == self.account.uid);
        let sentence = || format!("{} belongs to another user: remove it or set TMPDIR", self.template.display());
        if trusted { Ok(()) } else { Err(Error::Unavailable(sentence())) }
    }

    /// Whether the copy is whole; the copy is measured, as the template could change after a look at it.
    fn copy(&self) -> Result<bool, Error> {
        let data = self.directory.join("data");
        let mut command = self.account.command("cp", self.directory);
        command.arg("-a").arg(self.template.join("data")).arg("data");
        let copied = run(command);
        let manifest = fs::read_to_string(self.template.join("manifest")).unwrap_or_default();
        if copied.is_ok() && measure(&data).is_ok_and(|measured| measured == manifest) {
            return Ok(true);
        }
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(&data, error)),
            _ => Ok(false),
        }
    }

    /// Built inside the cluster's directory, so that whoever removes that removes a half-built template, too.
    fn build(&self) -> Result<(), Error> {
        let fresh = self.directory.join("fresh");
        fs::create_dir(&fresh).and_then(|()| self.account.give(&fresh)).map_err(|error| unwritable(&fresh, error))?;
        let mut command = self.account.command(self.binaries.directory.join("initdb"), &fresh);
        // A relative path: after a removal of the directory, `initdb` cannot create it anew.
        command.args(INITDB).args(["-D", "data"]);
        run(command)?;
        let manifest = measure(&fresh.join("data")).map_err(|error| unwritable(&fresh, error))?;
        fs::write(fresh.join("manifest"), manifest).map_err(|error| unwritable(&fresh, error))?;
        match fs::rename(&fresh, self.template) {
            // Another process was faster, and its template is as good as ours.
            Err(_) if self.template.exists() => fs::remove_dir_all(&fresh).map_err(|error| unwritable(&fresh, error)),
            renamed => renamed.map_err(|error| unwritable(self.template, error)),
        }
    }
}

/// The number of files below `directory` and their bytes.
fn measure(directory: &Path) -> io::Result<String> {
    let (mut file_count, mut bytes) = (0u64, 0u64);
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            file_count += 1;
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                bytes += metadata.len();
            }
        }
    }
    Ok(format!("{file_count} files, {bytes} bytes\n"))
}

pub(super) fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::Unavailable(format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use super::*;
    use crate::postgres::binaries;

    fn base(account: Account) -> tempfile::TempDir {
        let base = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        account.give(base.path()).unwrap();
        base
    }

    fn home(base: &Path, name: &str, account: Account) -> PathBuf {
        let home = base.join(name);
        fs::create_dir(&home).unwrap();
        account.give(&home).unwrap();
        home
    }

    #[test]
    fn several_may_furnish_at_once_and_a_damaged_template_is_replaced() {
        let (binaries, account) = (binaries::find().unwrap(), Account::choose().unwrap());
        let base = base(account);
        let homes = ["a", "b", "c"].map(|name| home(base.path(), name, account));
        thread::scope(|scope| {
            homes.iter().for_each(|home| drop(scope.spawn(|| furnish(&binaries, account, home).unwrap())));
        });
        let template = path(&binaries, account, &homes[0]);
        let manifest = fs::read_to_string(template.join("manifest")).unwrap();

        fs::remove_file(template.join("data/global/pg_control")).unwrap();
        let home = home(base.path(), "d", account);
        furnish(&binaries, account, &home).unwrap();
        for home in homes.iter().chain([&home]) {
            assert_eq!(measure(&home.join("data")).unwrap(), manifest, "{}", home.display());
        }
    }

    #[test]
    fn a_template_of_somebody_else_is_refused() {
        let (binaries, account) = (binaries::find().unwrap(), Account::choose().unwrap());
        let base = base(account);
        let home = home(base.path(), "a", account);
        std::os::unix::fs::symlink("/", path(&binaries, account, &home)).unwrap();
        let error = furnish(&binaries, account, &home).unwrap_err().to_string();
        assert!(error.contains(" belongs to another user: remove it or set TMPDIR"), "{error}");
    }
}
