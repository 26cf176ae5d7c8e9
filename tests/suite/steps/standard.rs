//! Steps of a prepared table run once each and are recorded with the result.

use std::sync::{Arc, Mutex};
use std::time::Duration;

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
        Some(Duration::from_secs(5))
    }

    async fn observe(&self) -> StepObservation {
        StepObservation::Unknown("it cannot be observed".into())
    }

    async fn apply(&self) -> Result<(), StepError> {
        let mut site = self.1.lock().unwrap();
        site.journal.push(self.0);
        if site.refused && self.0 == "wall" {
            return Err(StepError::transient("no permission"));
        }
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

#[tokio::test]
async fn steps_of_a_prepared_table_run_once_and_are_recorded() {
    let (database, site) = (
        Database::create().await,
        Arc::new(Mutex::new(BuildLog::default())),
    );
    site.lock().unwrap().refused = true;
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
