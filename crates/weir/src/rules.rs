//! `weir rules`: the alerts that weir ships, to be read and changed.

use std::process::ExitCode;

use clap::Args;
use weir_rules::RuleKind;
use weir_rules::pack::{PACKS, Pack};

use crate::config_files::rule_pack;

#[derive(Args)]
pub struct RulesArgs {
    /// The pack to print, as a rule file of Prometheus; a list of the packs without.
    #[arg(value_parser = rule_pack)]
    pack: Option<&'static Pack>,
    /// Print what to do when its alerts fire instead.
    #[arg(long, requires = "pack")]
    runbook: bool,
}

#[allow(clippy::print_stdout, reason = "the rules are what the command is for")]
pub fn main(args: RulesArgs) -> anyhow::Result<ExitCode> {
    match args.pack {
        Some(pack) if args.runbook => print!("{}", pack.runbook),
        Some(pack) => print!("{}", pack.rules),
        None => {
            for pack in &PACKS {
                let groups = pack.groups().map_err(|errors| anyhow::anyhow!("pack {}: {errors:?}", pack.name))?;
                let is_alert = |rule: &&weir_rules::Rule| matches!(rule.kind, RuleKind::Alert { .. });
                let n = groups.iter().flat_map(|g| &g.rules).filter(is_alert).count();
                println!("{:<12} {n} alerts", pack.name);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
