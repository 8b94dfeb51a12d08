//! An engine installed on a server to be measured, and connections to it of their own.

use crate::lockstep::wire::{parameter, values};
use crate::postgres::server::Server;
use crate::postgres::session::{Outcome, Session};
use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Row};
use tourbillon_engine::guard::Guards;
use tourbillon_engine::sql::ids::Ids;
use tourbillon_engine::sql::install;
use tourbillon_engine::sql::mapping::Mapping;
use tourbillon_models::history::{PlainOp, PlainReply};

/// What the connections share.
pub struct Site {
    config: Config,
    mapping: Mapping,
    schema: String,
}

impl Site {
    /// In a schema of its own; `steps` are the names of a workflow's steps.
    pub fn install(server: &mut Server, steps: &[&'static str]) -> Result<Site> {
        let schema = server.create_schema()?;
        server.install(&install::install(&schema, Guards::ALL))?;
        Ok(Site { config: server.config().clone(), mapping: Mapping::new(&schema, Guards::ALL, steps, &[]), schema })
    }

    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// A text that speaks of `tourbillon.`
    pub fn in_schema(&self, sql: &str) -> String {
        sql.replace("tourbillon.", &format!("{}.", self.schema))
    }
}

/// A connection of its own, with the names of the ids that it has seen.
pub struct Connected<'a> {
    site: &'a Site,
    runtime: tokio::runtime::Runtime,
    session: Session,
    ids: Ids,
}

impl<'a> Connected<'a> {
    pub fn open(site: &'a Site) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let session = runtime.block_on(Session::open(&site.config))?;
        Ok(Connected { site, runtime, session, ids: Ids::new() })
    }

    /// Several statements, without parameters or results.
    pub fn script(&mut self, sql: &str) -> Result<()> {
        let sql = self.site.in_schema(sql);
        self.runtime.block_on(self.session.execute_script(&sql)).done()?;
        Ok(())
    }

    pub fn prepare(&mut self, sql: &str) -> Result<()> {
        let sql = self.site.in_schema(sql);
        Ok(self.runtime.block_on(self.session.prepare(&sql)).done().map(|_| ())?)
    }

    /// One statement without parameters.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Row>> {
        let sql = self.site.in_schema(sql);
        Ok(self.runtime.block_on(self.session.execute(&sql, &[])).done()?.rows)
    }

    pub fn call(&mut self, op: &PlainOp) -> Result<PlainReply> {
        let statement = self.site.mapping.encode(op, &self.ids);
        let parameters: Vec<_> = statement.params.into_iter().map(parameter).collect();
        let borrowed: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|it| &**it as _).collect();
        match self.runtime.block_on(self.session.execute(&statement.text, &borrowed)) {
            Outcome::Done(reply) => {
                let rows: Vec<_> = reply.rows.iter().map(values).collect();
                Ok(self.site.mapping.decode(op, &rows, &mut self.ids).map_err(|error| anyhow::anyhow!("{error}"))?.0)
            }
            other => bail!("{op:?} came to {other:?}"),
        }
    }

    /// How long a call takes, the encoding of its parameters included.
    pub fn timed(&mut self, op: &PlainOp) -> Result<(PlainReply, Duration)> {
        let begun = Instant::now();
        let reply = self.call(op)?;
        Ok((reply, begun.elapsed()))
    }
}
