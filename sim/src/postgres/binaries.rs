//! The PostgreSQL programs: where they are found, and fetched when there are none.
//!
//! What it is not: it starts nothing but `postgres --version` and `pg_config`. Invariant: a [`Binaries`] holds both
//! `initdb` and `postgres`, of a version that this project supports.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;
use pg_embed::pg_fetch::{PG_V17, PgFetchSettings};
use pg_embed::pg_unpack::unpack_postgres;

use super::Error;

/// The oldest major version that the SQL runs on.
pub const OLDEST_MAJOR: u32 = 14;

/// The variable that names a directory with `initdb` and `postgres`; nothing else is tried when it is set.
pub const VARIABLE: &str = "TOURBILLON_PG_BIN";

/// A directory with usable `initdb` and `postgres`.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// Holds the programs.
    pub directory: PathBuf,
    /// As the server prints it, for instance `15.14`.
    pub version: String,
    /// The first number of the version.
    pub major: u32,
}

/// The installed programs or, if there are none, downloaded ones (some 10 MB, once; takes seconds to minutes).
///
/// Must not be called from within a tokio runtime.
pub fn find() -> Result<Binaries, Error> {
    let missing = match installed() {
        Err(Error::Unavailable(sentence)) if named().is_none() => sentence,
        found => return found,
    };
    downloaded().map_err(|reason| {
        Error::Unavailable(format!(
            "{missing}, and downloading PostgreSQL failed ({reason}): install PostgreSQL {OLDEST_MAJOR} or later, set \
             {VARIABLE} to the directory that holds its initdb and postgres, or name a running server with --postgres URL"
        ))
    })
}

/// The programs on this machine, without the network: [`VARIABLE`], then `pg_config`, then the newest under
/// `/usr/lib/postgresql`.
pub fn installed() -> Result<Binaries, Error> {
    if let Some(directory) = named() {
        return inspect(&directory)
            .map_err(|reason| Error::Unavailable(format!("{VARIABLE} names no usable PostgreSQL: {reason}")));
    }
    let mut reasons = Vec::new();
    for directory in candidates() {
        match inspect(&directory) {
            Ok(binaries) => return Ok(binaries),
            Err(reason) => reasons.push(reason),
        }
    }
    let looked = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
    Err(Error::Unavailable(format!("no PostgreSQL server is installed{looked}")))
}

/// Refuses a [`VARIABLE`] that names no server's programs, before anybody relies on it.
pub fn check_named() -> Result<(), Error> {
    named().map_or(Ok(()), |_| installed().map(|_| ()))
}

/// Empty, the variable counts as unset.
fn named() -> Option<PathBuf> {
    env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn candidates() -> Vec<PathBuf> {
    configured().into_iter().chain(packaged(Path::new("/usr/lib/postgresql"))).collect()
}

fn configured() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim())).filter(|path| path.is_absolute())
}

/// `<root>/<major>/bin`, newest first.
fn packaged(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut majors: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.iter().map(|major| root.join(major.to_string()).join("bin")).collect()
}

fn inspect(directory: &Path) -> Result<Binaries, String> {
    let directory = &std::path::absolute(directory).map_err(|error| error.to_string())?;
    for program in ["initdb", "postgres"] {
        let executable = fs::metadata(directory.join(program)).is_ok_and(|file| file.mode() & 0o111 != 0);
        if !executable {
            return Err(format!("there is no {program} in {}", directory.display()));
        }
    }
    let output = Command::new(directory.join("postgres"))
        .arg("--version")
        .output()
        .map_err(|error| format!("{} does not run: {error}", directory.join("postgres").display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (version, major) =
        parse_version(&text).ok_or_else(|| format!("{} does not tell its version", directory.display()))?;
    if major < OLDEST_MAJOR {
        return Err(format!("{} holds version {version}, older than {OLDEST_MAJOR}", directory.display()));
    }
    Ok(Binaries { directory: directory.to_path_buf(), version, major })
}

/// `postgres (PostgreSQL) 15.14 (Debian …)` gives `15.14` and 15; `18beta1` and `19devel` are versions, too.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let version = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((version.to_string(), digits.parse().ok()?))
}

/// pg-embed's own cache is not used: it cannot tell a finished directory from one that another process is still
/// unpacking, and root's lies where the account that runs the server may not look.
fn downloaded() -> Result<Binaries, String> {
    let settings = PgFetchSettings { version: PG_V17, ..Default::default() };
    let cache = cache_directory()?;
    let home = cache.join(format!("postgresql-{}-{}", settings.version.0, settings.platform()));
    if !home.exists() {
        fetch(&settings, &cache, &home)?;
    }
    inspect(&home.join("bin"))
}

/// `~/.cache/tourbillon` or, for root, a place that the account which runs the server can read.
pub(super) fn cache_directory() -> Result<PathBuf, String> {
    let root = geteuid().is_root().then(|| PathBuf::from("/var/cache"));
    let own = || env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let parent = root.or_else(own).or_else(home).ok_or("HOME is not set, so there is no cache directory")?;
    let cache = parent.join("tourbillon");
    fs::create_dir_all(&cache).map_err(|error| format!("{} cannot be created: {error}", cache.display()))?;
    Ok(cache)
}

/// Unpacks beside `home` and renames, so that `home` is complete whenever it exists.
fn fetch(settings: &PgFetchSettings, cache: &Path, home: &Path) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string().trim_end_matches('.').to_string();
    let work = tempfile::tempdir_in(cache).map_err(|error| failed(&error))?;
    let (archive, unpacked) = (work.path().join("archive"), work.path().join("unpacked"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let bytes = runtime.block_on(settings.fetch_postgres()).map_err(|error| failed(&error))?;
    fs::write(&archive, bytes).map_err(|error| failed(&error))?;
    fs::create_dir(&unpacked).map_err(|error| failed(&error))?;
    runtime.block_on(unpack_postgres(&archive, &unpacked)).map_err(|error| failed(&error))?;
    fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755)).map_err(|error| failed(&error))?;
    match fs::rename(&unpacked, home) {
        // Another process was faster; its directory is as good as ours.
        Err(_) if home.exists() => Ok(()),
        renamed => renamed.map_err(|error| failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_vendor() {
        for (text, expected) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", Some(("15.14", 15))),
            ("postgres (PostgreSQL) 18beta1\n", Some(("18beta1", 18))),
            ("postgres (PostgreSQL) 19devel\n", Some(("19devel", 19))),
            ("postgres (PostgreSQL) 9.6.24\n", Some(("9.6.24", 9))),
            ("mysqld 8\n", None),
        ] {
            let found = parse_version(text);
            assert_eq!(found.as_ref().map(|(version, major)| (version.as_str(), *major)), expected, "{text}");
        }
    }

    #[test]
    fn the_newest_package_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9.6", "14", "9", "17", "current"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let expected: Vec<PathBuf> = ["17", "14", "9"].iter().map(|m| root.path().join(m).join("bin")).collect();
        assert_eq!(packaged(root.path()), expected);
    }

    #[test]
    fn a_directory_without_a_server_is_refused_in_one_sentence() {
        let empty = tempfile::tempdir().unwrap();
        let reason = inspect(empty.path()).unwrap_err();
        assert!(reason.starts_with("there is no initdb in /"), "{reason}");
        fs::write(empty.path().join("initdb"), "").unwrap();
        fs::set_permissions(empty.path().join("initdb"), fs::Permissions::from_mode(0o755)).unwrap();
        let reason = inspect(empty.path()).unwrap_err();
        assert!(reason.starts_with("there is no postgres in /"), "{reason}");
    }

    #[test]
    fn an_old_server_is_refused() {
        let old = tempfile::tempdir().unwrap();
        // Written by another process: a program that this one has open for writing, if only in a child that another
        // test just forked, cannot be run.
        let script = "for p in initdb postgres; do
            printf '#!/bin/sh\\necho \"postgres (PostgreSQL) 13.22\"\\n' > $p && chmod +x $p; done";
        assert!(Command::new("sh").args(["-c", script]).current_dir(old.path()).status().unwrap().success());
        let reason = inspect(old.path()).unwrap_err();
        assert!(reason.ends_with("holds version 13.22, older than 14"), "{reason}");
    }
}
