//! `schema`: prints JSON Schemas.

use super::args::{SchemaArgs, SchemaOf};
use super::{Failed, exit, terminal};
use crate::measure::{DecisionLine, Record};

pub(crate) fn run(args: &SchemaArgs) -> Result<u8, Failed> {
    let schema = match args.of {
        SchemaOf::Experiment => crate::config::schema_json(),
        SchemaOf::Results => schemars::schema_for!(Record).to_value(),
        SchemaOf::Decisions => schemars::schema_for!(DecisionLine).to_value(),
    };
    terminal::out(&format!("{schema:#}\n"))?;
    Ok(exit::PASS)
}
