//! The data directory that every cluster starts from, made once by `initdb` and copied.
//!
//! A copy takes a tenth of the time of `initdb`. It is kept in the user's cache directory, some 30 MB for each version and
//! place of the programs; who makes one removes others that nobody has used for a month. What it is not: it is never
//! started, and never trusted: caches are cleaned file by file behind our back. Invariant: a data directory handed out
//! has exactly the files and bytes that `initdb` left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::Error;
use super::account::{Account, run};
use super::binaries::{Binaries, cache_directory};
use super::home::base_directory;

const INITDB: [&str; 9] = ["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C", "--wal-segsize=1", "-U", "postgres"];

const PREFIX: &str = "tourbillon-template-";

/// After so long without use a template of another version goes.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The user's cache directory or, where it cannot be written or the account cannot get there, the temporary directory.
pub(super) fn template_directory(account: Account) -> PathBuf {
    let usable = |cache: &PathBuf| {
        let is_open = |path: &Path| fs::metadata(path).is_ok_and(|it| it.mode() & 0o001 != 0);
        let is_reached = !account.lent || cache.ancestors().all(is_open);
        is_reached && tempfile::tempdir_in(cache).is_ok()
    };
    cache_directory().ok().filter(usable).unwrap_or_else(|| base_directory(account))
}

/// Fills `directory/data` from a template in `templates`. Several processes may do so at once: a template is built
/// privately and renamed into place.
pub(super) fn furnish(binaries: &Binaries, account: Account, templates: &Path, directory: &Path) -> Result<(), Error> {
    let template = path(binaries, account, templates);
    let work = Work { binaries, account, templates, directory, template: &template };
    for _ in 0..3 {
        if template.exists() {
            work.check_owner()?;
            if work.copy()? {
                return Ok(());
            }
            // Half of it is gone. Another process may just have replaced it, and then loses a good one: a rebuild.
            let trash = work.private()?;
            let _ = fs::rename(&template, trash.path().join("broken"));
        }
        work.build()?;
        work.sweep();
    }
    Err(Error::Unavailable(format!("{} cannot be copied whole: remove it", template.display())))
}

/// Named after all that its content depends on.
fn path(binaries: &Binaries, account: Account, templates: &Path) -> PathBuf {
    let origin = binaries.directory.to_string_lossy();
    let readable: String = format!("{}-{}-{origin}", account.uid, binaries.version)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(200)
        .collect();
    templates.join(format!("{PREFIX}{readable}"))
}

struct Work<'a> {
    binaries: &'a Binaries,
    account: Account,
    templates: &'a Path,
    directory: &'a Path,
    template: &'a Path,
}

impl Work<'_> {
    /// Anyone may create a directory of this name in a shared temporary directory.
    fn check_owner(&self) -> Result<(), Error> {
        let trusted = fs::symlink_metadata(self.template).is_ok_and(|it| it.is_dir() && it.uid() == self.account.uid);
        let sentence = || format!("{} belongs to another user: remove it", self.template.display());
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
            let _ = File::open(self.template.join("manifest")).and_then(|it| it.set_modified(SystemTime::now()));
            return Ok(true);
        }
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(&data, error)),
            _ => Ok(false),
        }
    }

    /// A directory beside the template, from where a rename gets there; it goes again. One that stays, because we are
    /// killed, is taken for a template that nobody uses.
    fn private(&self) -> Result<TempDir, Error> {
        let private = tempfile::Builder::new().prefix(&format!("{PREFIX}unfinished-")).tempdir_in(self.templates);
        let private = private.map_err(|error| unwritable(self.templates, error))?;
        self.account.give(private.path()).map_err(|error| unwritable(private.path(), error))?;
        Ok(private)
    }

    fn build(&self) -> Result<(), Error> {
        let private = self.private()?;
        let fresh = private.path().join("fresh");
        fs::create_dir(&fresh).and_then(|()| self.account.give(&fresh)).map_err(|error| unwritable(&fresh, error))?;
        self.initialize(&fresh)?;
        let manifest = measure(&fresh.join("data")).map_err(|error| unwritable(&fresh, error))?;
        fs::write(fresh.join("manifest"), manifest).map_err(|error| unwritable(&fresh, error))?;
        match fs::rename(&fresh, self.template) {
            // Another process was faster, and its template is as good as ours.
            Err(_) if self.template.exists() => Ok(()),
            renamed => renamed.map_err(|error| unwritable(self.template, error)),
        }
    }

    fn initialize(&self, fresh: &Path) -> Result<(), Error> {
        let initdb = self.binaries.directory.join("initdb");
        let mut command = self.account.command(&initdb, fresh);
        // A relative path: after a removal of the directory, `initdb` cannot create it anew.
        command.args(INITDB).args(["-D", "data"]);
        run(command)?;
        if fresh.join("data/PG_VERSION").exists() {
            return Ok(());
        }
        let sentence = format!("{} ended well but made no database: is it PostgreSQL's?", initdb.display());
        Err(Error::Unavailable(sentence))
    }

    /// Removes what has not been used for long, also where templates once were.
    fn sweep(&self) {
        for directory in BTreeSet::from([self.templates.to_path_buf(), base_directory(self.account)]) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let is_template = entry.file_name().to_string_lossy().starts_with(PREFIX);
                if is_template && entry.path() != self.template && self.is_forgotten(&entry.path()) {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
    }

    fn is_forgotten(&self, template: &Path) -> bool {
        let is_ours = fs::symlink_metadata(template).is_ok_and(|it| it.is_dir() && it.uid() == self.account.uid);
        let used = fs::metadata(template.join("manifest")).or_else(|_| fs::metadata(template));
        let age = used.and_then(|it| it.modified()).ok().and_then(|it| it.elapsed().ok());
        is_ours && age.is_some_and(|age| age > KEPT)
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
            homes.iter().for_each(|home| drop(scope.spawn(|| furnish(&binaries, account, base.path(), home).unwrap())));
        });
        let template = path(&binaries, account, base.path());
        let manifest = fs::read_to_string(template.join("manifest")).unwrap();

        fs::remove_file(template.join("data/global/pg_control")).unwrap();
        let home = home(base.path(), "d", account);
        furnish(&binaries, account, base.path(), &home).unwrap();
        for home in homes.iter().chain([&home]) {
            assert_eq!(measure(&home.join("data")).unwrap(), manifest, "{}", home.display());
        }
    }

    #[test]
    fn a_template_of_somebody_else_is_refused() {
        let (binaries, account) = (binaries::find().unwrap(), Account::choose().unwrap());
        let base = base(account);
        let home = home(base.path(), "a", account);
        std::os::unix::fs::symlink("/", path(&binaries, account, base.path())).unwrap();
        let error = furnish(&binaries, account, base.path(), &home).unwrap_err().to_string();
        assert!(error.contains(" belongs to another user: remove it"), "{error}");
    }

    #[test]
    fn who_makes_a_template_removes_those_that_nobody_uses() {
        let (binaries, account) = (binaries::find().unwrap(), Account::choose().unwrap());
        let base = base(account);
        let template = |name: &str, age: Duration| {
            let template = home(base.path(), &format!("{PREFIX}{name}"), account);
            fs::write(template.join("manifest"), "").unwrap();
            File::open(template.join("manifest")).unwrap().set_modified(SystemTime::now() - age).unwrap();
            template
        };
        let [old, young] = [template("old", KEPT * 2), template("young", KEPT / 2)];
        furnish(&binaries, account, base.path(), &home(base.path(), "a", account)).unwrap();
        assert!(!old.exists() && young.exists() && path(&binaries, account, base.path()).exists());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 3, "nothing unfinished is left");
    }

    #[test]
    fn an_initdb_that_does_nothing_is_said_to() {
        let (binaries, account) = (binaries::find().unwrap(), Account::choose().unwrap());
        let (base, programs) = (base(account), base(account));
        std::os::unix::fs::symlink("/bin/true", programs.path().join("initdb")).unwrap();
        let binaries = Binaries { directory: programs.path().to_path_buf(), ..binaries };
        let error = furnish(&binaries, account, base.path(), &home(base.path(), "a", account)).unwrap_err();
        assert!(error.to_string().ends_with("initdb ended well but made no database: is it PostgreSQL's?"), "{error}");
    }
}
