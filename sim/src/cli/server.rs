//! Which server to replay on: a throw-away one, the user's, or none.

use crate::cli::saved::quoted;
use crate::postgres::Error;
use crate::postgres::binaries;
use crate::postgres::server::Server;
use clap::Args;
use std::str::FromStr;

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// A throw-away server, none, or the address of yours [default: $DATABASE_URL or auto]
    #[arg(long, value_name = "auto|off|URL")]
    postgres: Option<Choice>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    Auto,
    Off,
    Url(String),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Choice::Auto),
            "off" => Ok(Choice::Off),
            text if text.contains("://") || text.contains('=') => Ok(Choice::Url(text.to_owned())),
            text => Err(format!("{text:?} is neither auto, off nor an address like postgres://user@host/database")),
        }
    }
}

impl Arguments {
    pub fn choice(&self) -> Choice {
        let named = || std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()).map(Choice::Url);
        self.postgres.clone().or_else(named).unwrap_or(Choice::Auto)
    }
}

impl Arguments {
    /// The option that names the same server again, unless that would show a password.
    pub fn again(&self) -> String {
        match &self.postgres {
            Some(Choice::Url(url)) if !has_password(url) => format!(" --postgres {}", quoted(url)),
            _ => String::new(),
        }
    }
}

fn has_password(url: &str) -> bool {
    url.parse::<tokio_postgres::Config>().map_or(true, |config| config.get_password().is_some())
}

impl Choice {
    /// As it is asked for.
    pub fn named(&self) -> String {
        match self {
            Choice::Auto => "auto".to_owned(),
            Choice::Off => "off".to_owned(),
            Choice::Url(url) => url.clone(),
        }
    }

    /// A server of ours can be killed; somebody else's cannot.
    pub fn may_crash(&self) -> bool {
        *self == Choice::Auto
    }

    /// None if none was asked for.
    pub fn open(&self) -> Result<Option<Server>, Error> {
        match self {
            Choice::Off => Ok(None),
            Choice::Auto => Server::embedded().map(Some),
            Choice::Url(url) => Server::connect_url(url).map(Some),
        }
    }

    /// Refuses an address, or a directory of programs, that leads nowhere, before any work is done.
    pub fn look(&self) -> Result<(), Error> {
        match self {
            Choice::Url(url) => Server::connect_url(url).map(|_| ()),
            Choice::Auto => binaries::check_named(),
            Choice::Off => Ok(()),
        }
    }
}
