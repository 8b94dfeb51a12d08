//! `sql`: the script that installs the engine, as it is or with guards removed, with its roles or without.

use super::{Console, Exit, name};
use anyhow::Result;
use clap::Args;
use tourbillon_engine::guard::{Design, Guard, Guards};
use tourbillon_engine::sql::install::{Roles, is_schema_name, script};

#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Guards to leave out
    #[arg(long, value_name = "GUARD,…", value_delimiter = ',', value_parser = name::guard)]
    without: Vec<Guard>,
    /// A published system's way of doing it: a named set of removed guards
    #[arg(long, value_name = "NAME", value_parser = name::design)]
    design: Option<&'static Design>,
    /// The schema to create and install in; where it exists already, the script does nothing
    #[arg(long, value_name = "NAME", default_value = "tourbillon", value_parser = schema)]
    schema: String,
    /// Also make the roles tourbillon_worker and tourbillon_client, and say what they may do
    #[arg(long)]
    roles: bool,
}

fn schema(name: &str) -> Result<String, String> {
    match is_schema_name(name) {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "{name:?} is no schema name that needs no quotes: at most 63 small letters, digits and underscores, not \
             beginning with a digit or pg_"
        )),
    }
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Exit> {
    let of_design = arguments.design.map_or(&[][..], |design| design.removed);
    let guards = Guards::without(&[&arguments.without, of_design].concat());
    let roles = if arguments.roles { Roles::Made } else { Roles::LeftAlone };
    console.print(&script(&arguments.schema, guards, roles));
    Ok(Exit::Clean)
}
