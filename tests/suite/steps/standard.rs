//! Steps of a prepared table run once each and are recorded with the result.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kindler::core::backoff::Backoff;
use kindler::core::controller::{ControllerSettings, Finished};
use kindler::core::database::{Database as Url, DatabaseError, Undecodable};
use kindler::core::lease::LeasePolicy;
use kindler::core::resource::Resource;
use kindler::core::rows::Leased;
use kindler::core::runtime::Runtime;
use kindler::core::standard::{RowSpec, Standard};
use kindler::core::steps::{
    Direction, Purpose, Run, RunResult, Step, StepError, StepObservation, StepSet,
};
use kindler::core::table::Table;
use kindler::core::work::Work;
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;

use crate::kit::{Database, Sql, eventually};

struct House;

impl RowSpec for House {
    const TABLE: Table = Table::prepared(kindler::prepared_names!("houses", "name"), "t.floors");

    fn read(_: &Row) -> Result<Self, Undecodable> {
        Ok(Self)
    }
}

/// The steps that were applied, in order; the wall needs a permission.
#[derive(Default)]
struct BuildLog {
    journal: Vec<&'static str>,
    refused: bool,
    /// The roof takes until this ends.
    roof_waits: bool,
}

struct Houses(Arc<Mutex<BuildLog>>);

struct HouseStep(&'static str, Arc<Mutex<BuildLog>>);

#[async_trait]
impl Step for HouseStep {
    fn name(&self) -> &'static str {
        self.0
    }

    fn is_observable(&self) -> bool {
        false
    }

    fn deadline(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    async fn observe(&self) -> StepObservation {
        StepObservation::Unknown("it cannot be observed".into())
    }

    async fn apply(&self) -> Result<(), StepError> {
        {
            let mut site = self.1.lock().unwrap();
            site.journal.push(self.0);
            if site.refused && self.0 == "wall" {
                return Err(StepError::transient("no permission"));
            }
        }
        let waits = || self.0 == "roof" && self.1.lock().unwrap().roof_waits;
        eventually(Duration::from_secs(20), "the end of the roof", || async {
            !waits()
        })
        .await;
        Ok(())
    }

    async fn remove(&self) -> Result<(), StepError> {
        Ok(())
    }
}

#[async_trait]
impl Resource for Houses {
    type Object = Standard<House>;

    fn name(&self) -> &'static str {
        "house"
    }

    async fn reconcile(
        &self,
        row: Leased<Standard<House>>,
        work: &Work<Self>,
    ) -> Result<Finished, DatabaseError> {
        let part = |name| -> Box<dyn Step> { Box::new(HouseStep(name, self.0.clone())) };
        let set = StepSet::of("house", vec![part("ground"), part("wall"), part("roof")]);
        let (records, backoff) = (work.steps(), Backoff::default());
        let way = Direction::Forward(Purpose::Make);
        let metrics = Some(work.step_metrics());
        let mut run = Run::new(&set, &records, way, backoff, row.now(), metrics);
        let opening = run.open().await;
        let Some(row) = work.begin(row, &opening).await? else {
            return Ok(Finished::AGAIN);
        };
        let cancel = CancellationToken::new();
        let (end, cut) = work
            .during_generation(row.generation, &cancel, run.go(work))
            .await;
        let ended = match end.result {
            RunResult::Done => Ok("all steps done".to_owned()),
            RunResult::Failed(error) => Err(error),
            RunResult::Unrecorded(error) => return Err(error),
            RunResult::PlanAgain | RunResult::Interrupted | RunResult::LeaseLost => {
                return Ok(Finished::AGAIN);
            }
        };
        work.conclude(&row, ended, cut, &end.changes, None, &backoff)
            .await
    }
}

/// A runtime of houses, its site, and how it ends.
async fn runtime() -> (
    Database,
    Arc<Mutex<BuildLog>>,
    CancellationToken,
    JoinHandle<()>,
) {
    let (database, site) = (
        Database::create().await,
        Arc::new(Mutex::new(BuildLog::default())),
    );
    let mut runtime = Runtime::new(Url::parse(&database.url()).unwrap(), &Registry::new());
    let create = "CREATE TABLE houses (name text PRIMARY KEY, floors integer NOT NULL DEFAULT 1)";
    runtime
        .prepare(create, "houses", "name", &["floors"])
        .await
        .unwrap();
    let (settings, lease) = (ControllerSettings::default(), LeasePolicy::default());
    runtime
        .add(Houses(site.clone()), settings, lease)
        .await
        .unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(runtime.run(shutdown.clone()));
    (database, site, shutdown, running)
}

/// The row is locked for longer than a statement waits.
#[tokio::test]
async fn a_result_of_a_prepared_table_is_written_again() {
    let (database, site, shutdown, running) = runtime().await;
    site.lock().unwrap().roof_waits = true;
    let (sql, soon) = (database.connect().await, Duration::from_secs(20));
    sql.run("INSERT INTO houses (name) VALUES ('mine')").await;
    eventually(soon, "the start of the roof", || async {
        site.lock().unwrap().journal.contains(&"roof")
    })
    .await;
    sql.run("BEGIN; SELECT FROM houses FOR UPDATE").await;
    site.lock().unwrap().roof_waits = false;
    let locked = Instant::now();
    eventually(soon, "the end of the lock", || async {
        locked.elapsed() > Duration::from_secs(5)
    })
    .await;
    sql.run("ROLLBACK").await;
    sql.wait_text("SELECT state FROM houses", "ready").await;
    let once = ["ground", "wall", "roof"];
    assert_eq!(site.lock().unwrap().journal, once);
    shutdown.cancel();
    running.await.unwrap();
}

/// The refused result says which generation the effect has reached.
#[tokio::test]
async fn a_refused_result_keeps_what_was_reached() {
    let (database, _site, shutdown, running) = runtime().await;
    let sql = database.connect().await;
    sql.run(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'not on Fridays'; END $$;
         CREATE TRIGGER zz_no BEFORE UPDATE ON houses FOR EACH ROW
         WHEN (NEW.state = 'ready') EXECUTE FUNCTION no();
         INSERT INTO houses (name) VALUES ('mine')",
    )
    .await;
    sql.wait_text(
        "SELECT state || ' ' || reason FROM houses",
        "failed WriteRefused",
    )
    .await;
    let reached = "SELECT (observed_generation = generation)::text FROM houses";
    assert_eq!(sql.text(reached).await, "true");
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn steps_of_a_prepared_table_run_once_and_are_recorded() {
    let (database, site, shutdown, running) = runtime().await;
    site.lock().unwrap().refused = true;
    database
        .run("INSERT INTO houses (name) VALUES ('mine')")
        .await;
    let states = "SELECT coalesce(string_agg(name || ' ' || state, ', ' ORDER BY position), '') FROM houses_steps";
    let soon = Duration::from_secs(20);
    eventually(soon, "the wall to fail", || async {
        let failed = "SELECT concat(state, ': ', message) FROM houses";
        database.value::<String>(failed).await == "failed: step wall: no permission"
    })
    .await;
    assert_eq!(
        database.value::<String>(states).await,
        "ground done, wall failed"
    );
    site.lock().unwrap().refused = false;
    // The row is ready, and each requested retry runs one more pass.
    for _ in 0..2 {
        let journal = site.lock().unwrap().journal.len();
        database
            .run("UPDATE houses SET retry_requested_at = now()")
            .await;
        eventually(soon, "another complete pass", || async {
            let idle =
                "SELECT state = 'ready' AND NOT EXISTS (SELECT FROM houses_leases) FROM houses";
            site.lock().unwrap().journal.len() >= journal + 3 && database.value::<bool>(idle).await
        })
        .await;
    }
    let all = "ground done, wall done, roof done";
    assert_eq!(database.value::<String>(states).await, all);
    let once = ["ground", "wall", "roof"];
    assert_eq!(
        site.lock().unwrap().journal,
        [&["ground", "wall"][..], &once, &once].concat()
    );
    shutdown.cancel();
    running.await.unwrap();
}
