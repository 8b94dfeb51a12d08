//! What a process is told when it is started, as one line on its standard input. After that come grants, a number a line:
//! batches may be begun until they have so many workflows. The end of the input is the end of its work, but for batches that
//! it may begin.

use super::batch::Batches;
use super::clock::Epoch;
use super::journal::Life;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tokio_postgres::Config;
use tourbillon_engine::actors::script::ScriptOptions;
use tourbillon_engine::actors::worker::options::WorkerOptions;
use tourbillon_models::name::Micros;

#[derive(Clone, Serialize, Deserialize)]
pub struct Orders {
    pub life: Life,
    pub task: Task,
    pub workload: String,
    pub without: Vec<String>,
    pub schema: String,
    pub address: Address,
    /// Of the round's connections on the server.
    pub tag: String,
    /// Where journals lie.
    pub directory: PathBuf,
    pub epoch: Epoch,
    /// Until then its statements have the timeouts.
    pub faults_end: Micros,
    pub timeouts: Option<Timeouts>,
    /// So long it waits for an answer, and then hangs up.
    pub patience: Micros,
    /// So long it leaves a transaction alone that it has lost, before it has the server end it.
    pub hesitation: Micros,
}

impl Orders {
    /// Of this life's connections on the server, before their number.
    pub fn label(&self) -> String {
        format!("{}-{}-{}", self.tag, self.life.process.0, self.life.incarnation)
    }

    pub fn journal(&self) -> PathBuf {
        self.journal_of(self.life)
    }

    /// Of that life, before or after this one.
    pub fn journal_of(&self, life: Life) -> PathBuf {
        self.directory.join(format!("{}-{}.jsonl", life.process.0, life.incarnation))
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub enum Task {
    Worker(WorkerOptions),
    Script(ScriptOptions),
    Batches(Batches),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timeouts {
    pub lock: Micros,
    pub statement: Micros,
}

/// Where a process connects to: the proxy before the server.
#[derive(Clone, Serialize, Deserialize)]
pub struct Address {
    /// A name, or the directory of a socket.
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<Vec<u8>>,
    pub database: Option<String>,
    /// Of each session.
    pub options: String,
}

impl Address {
    pub fn config(&self, application: &str) -> Config {
        let mut config = Config::new();
        config.host(&self.host).port(self.port).application_name(application).options(self.options.trim());
        self.user.iter().for_each(|user| _ = config.user(user));
        self.password.iter().for_each(|password| _ = config.password(password));
        self.database.iter().for_each(|database| _ = config.dbname(database));
        config
    }
}
