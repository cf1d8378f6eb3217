//! `weir drill`: breaks a fresh demo in ways drawn from a seed, and scores how weir finds, pages and explains it.
//!
//! The truth stays here. Names of services, topics and groups are drawn, so that nothing can be known
//! by heart; answers are read through the public API.

mod schedule;
mod score;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::DemoError;
use crate::metrics::now_ms;
use crate::naming::Names;
use crate::pager::rfc3339;
use crate::supervisor::{Demo, DemoOptions, ProcessUsage};

use schedule::Step;
use score::{CAUSE_MS_MAX, Observed, Quiet, Verdict};
use watch::Watch;

/// How a drill is run.
#[derive(Clone, Debug)]
pub struct DrillOptions {
    pub seed: u64,
    /// 4 faults instead of 12, and shorter rests.
    pub short: bool,
    pub program: PathBuf,
    pub data_dir: PathBuf,
    pub events_per_second: f64,
    pub trace_ratio: f64,
}

/// Everything that was seen, and the verdict.
#[derive(Clone, Debug, Serialize)]
pub struct DrillResult {
    pub seed: u64,
    pub short: bool,
    #[serde(flatten)]
    pub verdict: Verdict,
    pub steady_after_seconds: f64,
    pub faults: Vec<Observed>,
    pub quiet: Vec<Quiet>,
    pub cost: Cost,
    pub seconds: f64,
}

/// What the demo used while it was healthy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cost {
    /// Processor cores, all processes together.
    pub cores: f64,
    pub rss_mib: f64,
    pub by_process: Vec<ProcessCost>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ProcessCost {
    pub name: String,
    pub cores: f64,
    pub rss_mib: f64,
}

/// Times of a drill that differ between the forms.
struct Pace {
    /// Time without a fault at the start, when nothing may be paged.
    healthy: Duration,
    /// How long a decoy lasts.
    decoy: Duration,
    /// Steady time before the next step: what comes next is compared with it. Longer than the 20 s in
    /// which an alert that comes back reopens its incident, since the next fault is another one.
    rest: Duration,
}

impl Pace {
    fn new(short: bool) -> Self {
        let secs = Duration::from_secs;
        if short {
            Self { healthy: secs(30), decoy: secs(12), rest: secs(25) }
        } else {
            Self { healthy: secs(60), decoy: secs(20), rest: secs(25) }
        }
    }
}

/// After this long the pipeline should have drained what a fault left behind.
const RECOVERY_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// Runs the drill; `say` gets a line per event.
pub async fn run(options: DrillOptions, say: impl Fn(&str)) -> Result<DrillResult, DemoError> {
    let begun = Instant::now();
    let mut demo_options = DemoOptions::new(options.program.clone(), options.data_dir.clone());
    demo_options.names = Names::drawn(options.seed);
    demo_options.events_per_second = options.events_per_second;
    demo_options.trace_ratio = options.trace_ratio;
    let demo = Demo::start(demo_options).await?;
    let result = tokio::select! {
        result = drill(&demo, &options, &say) => result,
        error = demo.watch() => Err(error),
    };
    demo.stop().await;
    result.map(|mut result| {
        result.seconds = begun.elapsed().as_secs_f64();
        result
    })
}

async fn drill(demo: &Arc<Demo>, options: &DrillOptions, say: &impl Fn(&str)) -> Result<DrillResult, DemoError> {
    let url = demo.url().unwrap_or_default().to_owned();
    say(&format!("weir at {url}, seed {}", options.seed));
    let drill = Drill { demo: demo.clone(), watch: Watch::new(&url)?, pace: Pace::new(options.short), options };
    let begun = Instant::now();
    drill.wait_until_steady(Duration::from_secs(10)).await?;
    let steady_after_seconds = begun.elapsed().as_secs_f64();
    say(&format!("steady after {steady_after_seconds:.0} s"));

    let (mut faults, mut quiet) = (Vec::new(), Vec::new());
    let before = demo.usage().await;
    let (first, seconds) = drill.stay_quiet("healthy", drill.pace.healthy).await?;
    let cost = cost(&before, &demo.usage().await, seconds);
    say(&format!(
        "healthy for {seconds:.0} s, {} pages, {:.2} cores, {:.0} MiB",
        first.pages.len(),
        cost.cores,
        cost.rss_mib
    ));
    quiet.push(first);
    for step in schedule::draw(options.seed, options.short) {
        if step.fault.is_decoy() {
            let time = drill.decoy(step).await?;
            say(&format!("decoy {}: {} pages", time.during, time.pages.len()));
            quiet.push(time);
        } else {
            let observed = drill.fault(step).await?;
            say(&line(&observed));
            faults.push(observed);
        }
        let (rest, _) = drill.stay_quiet("rest", drill.pace.rest).await?;
        quiet.push(rest);
    }
    let verdict = score::judge(&faults, &quiet);
    Ok(DrillResult {
        seed: options.seed,
        short: options.short,
        verdict,
        steady_after_seconds,
        faults,
        quiet,
        cost,
        seconds: 0.0,
    })
}

fn line(o: &Observed) -> String {
    let seconds = |ms: Option<i64>| ms.map_or("never".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0));
    let answer = o.answer.as_ref().map_or("no answer", |a| a.summary.as_str());
    format!(
        "{} in {}: page {}, {} page(s), right cause {}, recovered {}; first cause: {answer}",
        o.fault,
        o.truth.service,
        seconds(o.page_after_ms),
        o.n_pages,
        seconds(o.right_after_ms),
        seconds(o.recovered_after_ms),
    )
}

struct Drill<'a> {
    demo: Arc<Demo>,
    watch: Watch,
    pace: Pace,
    options: &'a DrillOptions,
}

impl Drill<'_> {
    /// One fault from injection to recovery.
    async fn fault(&self, step: Step) -> Result<Observed, DemoError> {
        let injected_ms = now_ms();
        // The clock starts with the first act, so a rolling deployment runs on it.
        let demo = self.demo.clone();
        let breaking = tokio::spawn(async move { demo.break_it(step.fault, step.partition).await });
        let mut breaking = Some(breaking);
        let mut truth = None;
        let mut seen = Seen::default();
        while now_ms() - injected_ms < CAUSE_MS_MAX {
            tokio::time::sleep(POLL).await;
            if breaking.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
                && let Some(task) = breaking.take()
            {
                truth = Some(task.await??);
            }
            self.look(injected_ms, truth.as_ref(), &mut seen).await?;
            // A second page for the same fault would come soon after the first.
            let settled = now_ms() - injected_ms > 20_000;
            if settled && seen.page_ms.is_some() && seen.right_ms.is_some() {
                break;
            }
        }
        let truth = match (truth, breaking) {
            (Some(truth), _) => truth,
            (None, Some(task)) => task.await??,
            (None, None) => unreachable!("a finished task leaves its truth"),
        };
        self.demo.heal(step.fault).await?;
        let healed = Instant::now();
        let recovered = self.wait_until_steady(Duration::from_secs(3)).await.is_ok();
        let pages = self.watch.pages().await?;
        let n_pages = pages.iter().filter(|p| p.opened_at_ms >= injected_ms).count();
        let after = |ms: Option<i64>| ms.map(|ms| ms - injected_ms);
        Ok(Observed {
            fault: step.fault.id(),
            truth,
            injected_at: rfc3339(injected_ms),
            page_after_ms: after(seen.page_ms),
            n_pages,
            right_after_ms: after(seen.right_ms),
            answer: seen.answer,
            recovered_after_ms: recovered.then(|| i64::try_from(healed.elapsed().as_millis()).unwrap_or(i64::MAX)),
        })
    }

    async fn look(
        &self,
        injected_ms: i64,
        truth: Option<&crate::supervisor::Truth>,
        seen: &mut Seen,
    ) -> Result<(), DemoError> {
        let since = |opened_ms: i64| opened_ms >= injected_ms;
        let pages = self.watch.pages().await?;
        seen.page_ms = pages.iter().map(|p| p.opened_at_ms).filter(|ms| since(*ms)).min();
        let incidents = self.watch.incidents().await?;
        let current = incidents.into_iter().filter(|i| since(i.opened_at_ms) && !i.resolved);
        // One fault, one incident; were there more, the oldest is what the page links to.
        let current = current.min_by_key(|i| i.opened_at_ms);
        let Some(answer) = current.and_then(|i| i.first) else { return Ok(()) };
        if let Some(truth) = truth {
            if !answer.is_right(truth) {
                // It has to stay right; a guess that is taken back does not count.
                seen.right_ms = None;
            } else if seen.right_ms.is_none() {
                seen.right_ms = Some(now_ms());
            }
        }
        seen.answer = Some(answer);
        Ok(())
    }

    async fn decoy(&self, step: Step) -> Result<Quiet, DemoError> {
        let injected_ms = now_ms();
        self.demo.break_it(step.fault, step.partition).await?;
        tokio::time::sleep(self.pace.decoy).await;
        self.demo.heal(step.fault).await?;
        let id = step.fault.id();
        // The end of a burst is part of it.
        tokio::time::sleep(Duration::from_secs(6)).await;
        self.quiet_since(&id, injected_ms).await
    }

    async fn stay_quiet(&self, during: &str, time: Duration) -> Result<(Quiet, f64), DemoError> {
        let since_ms = now_ms();
        tokio::time::sleep(time).await;
        let quiet = self.quiet_since(during, since_ms).await?;
        let seconds = quiet.seconds;
        Ok((quiet, seconds))
    }

    async fn quiet_since(&self, during: &str, since_ms: i64) -> Result<Quiet, DemoError> {
        let pages = self.watch.pages().await?;
        Ok(Quiet {
            during: during.to_owned(),
            seconds: (now_ms() - since_ms) as f64 / 1000.0,
            pages: pages.into_iter().filter(|p| p.opened_at_ms >= since_ms).map(|p| p.title).collect(),
        })
    }

    /// Waits until nothing has been wrong for `hold`.
    async fn wait_until_steady(&self, hold: Duration) -> Result<(), DemoError> {
        let begun = Instant::now();
        let mut good_since: Option<Instant> = None;
        loop {
            let wrong = match self.what_is_wrong().await {
                Ok(wrong) => wrong,
                Err(error) => Some(error.chain()),
            };
            match (&wrong, good_since) {
                (Some(_), _) => good_since = None,
                (None, None) => good_since = Some(Instant::now()),
                (None, Some(since)) if since.elapsed() >= hold => return Ok(()),
                (None, Some(_)) => {}
            }
            if begun.elapsed() > RECOVERY_MAX {
                let last = wrong.unwrap_or_else(|| "it is well, but not for long enough".to_owned());
                return Err(DemoError::NotReady {
                    what: "a steady pipeline".into(),
                    seconds: RECOVERY_MAX.as_secs(),
                    last,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The first thing that keeps the pipeline from being steady, read through weir's API.
    async fn what_is_wrong(&self) -> Result<Option<String>, DemoError> {
        let wanted = self.options.events_per_second * 0.8;
        for (what, promql, is_wrong) in [
            ("delivered a second", "sum(rate(pipeline_deliveries_total[5s]))", Bound::Below(wanted)),
            ("late share", "max(stage:stream_late:ratio5s)", Bound::Above(0.02)),
            ("lag, seconds", "max(kafka_consumergroup_group_lag_seconds)", Bound::Above(2.5)),
            ("errors", "pipeline:errors:ratio5s", Bound::Above(0.005)),
            ("firing alerts", "count(ALERTS{alertstate=\"firing\"}) or vector(0)", Bound::Above(0.0)),
        ] {
            let value = self.watch.query_max(promql).await?;
            let bad = match (value, &is_wrong) {
                (None, _) => true,
                (Some(v), Bound::Below(bound)) => v.is_nan() || v < *bound,
                (Some(v), Bound::Above(bound)) => v.is_nan() || v > *bound,
            };
            if bad {
                return Ok(Some(format!("{what}: {value:?} ({promql})")));
            }
        }
        if let Some(page) = self.watch.pages().await?.into_iter().find(|p| p.open) {
            return Ok(Some(format!("an open page: {}", page.title)));
        }
        if let Some(incident) = self.watch.incidents().await?.into_iter().find(|i| !i.resolved) {
            return Ok(Some(format!("an open incident: {}", incident.id)));
        }
        Ok(None)
    }
}

enum Bound {
    Below(f64),
    Above(f64),
}

#[derive(Default)]
struct Seen {
    page_ms: Option<i64>,
    right_ms: Option<i64>,
    answer: Option<score::Answer>,
}

fn cost(before: &[ProcessUsage], after: &[ProcessUsage], seconds: f64) -> Cost {
    let mut by_process: Vec<ProcessCost> = after
        .iter()
        .filter_map(|now| {
            let then = before.iter().find(|b| b.name == now.name)?;
            Some(ProcessCost {
                name: now.name.clone(),
                cores: (now.cpu_seconds - then.cpu_seconds).max(0.0) / seconds.max(0.001),
                rss_mib: now.rss_bytes as f64 / f64::from(1 << 20),
            })
        })
        .collect();
    by_process.sort_by(|a, b| b.cores.total_cmp(&a.cores));
    Cost {
        cores: by_process.iter().map(|p| p.cores).sum(),
        rss_mib: by_process.iter().map(|p| p.rss_mib).sum(),
        by_process,
    }
}
