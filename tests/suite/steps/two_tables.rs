//! Two resources on the core, over two tables, in one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kindler::core::backoff::Backoff;
use kindler::core::controller::{ControllerSettings, Finished};
use kindler::core::database::{Database as Url, DatabaseError, Undecodable, column};
use kindler::core::lease::LeasePolicy;
use kindler::core::resource::Resource;
use kindler::core::rows::Leased;
use kindler::core::runtime::Runtime;
use kindler::core::standard::{RowSpec, Standard};
use kindler::core::steps::StepError;
use kindler::core::table::Table;
use kindler::core::work::Work;
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;

use super::rig::STEPS_TIMEOUT;
use crate::kit::{Database, Sql, eventually};

pub struct Lamp(i32);

impl RowSpec for Lamp {
    const TABLE: Table = Table::prepared(kindler::prepared_names!("lamps", "name"), "t.watts");

    fn read(row: &Row) -> Result<Self, Undecodable> {
        column(row, "watts").map(Self)
    }
}

pub struct Door(i32);

impl RowSpec for Door {
    const TABLE: Table = Table::prepared(kindler::prepared_names!("doors", "label"), "t.width");

    fn read(row: &Row) -> Result<Self, Undecodable> {
        column(row, "width").map(Self)
    }
}

/// The declared size of an object; a negative one cannot be created.
trait Measured: RowSpec {
    fn size(&self) -> i32;
}

impl Measured for Lamp {
    fn size(&self) -> i32 {
        self.0
    }
}

impl Measured for Door {
    fn size(&self) -> i32 {
        self.0
    }
}

/// The objects that both resources created, by table and key.
type CreatedObjects = Arc<Mutex<BTreeMap<(&'static str, String), i32>>>;

struct TestResource<T> {
    name: &'static str,
    objects: CreatedObjects,
    spec: std::marker::PhantomData<fn() -> T>,
}

#[async_trait]
impl<T: Measured> Resource for TestResource<T> {
    type Object = Standard<T>;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn reconcile(
        &self,
        row: Leased<Standard<T>>,
        work: &Work<Self>,
    ) -> Result<Finished, DatabaseError> {
        let Some(row) = work.begin(row, &[]).await? else {
            return Ok(Finished::AGAIN);
        };
        let (key, size) = ((self.name, row.object.key.clone()), row.object.spec.size());
        let ended = if row.object.deleted_at.is_some() {
            self.objects.lock().unwrap().remove(&key);
            Ok("gone".to_owned())
        } else if size < 0 {
            Err(StepError::transient("it cannot be made"))
        } else {
            self.objects.lock().unwrap().insert(key, size);
            Ok("made".to_owned())
        };
        work.conclude(&row, ended, None, &[], None, &Backoff::default())
            .await
    }
}

fn resource<T>(name: &'static str, objects: &CreatedObjects) -> TestResource<T> {
    TestResource {
        name,
        objects: objects.clone(),
        spec: std::marker::PhantomData,
    }
}

const LAMPS: &str =
    "CREATE TABLE IF NOT EXISTS lamps (name text PRIMARY KEY, watts integer NOT NULL, note text)";
const DOORS: &str =
    "CREATE TABLE IF NOT EXISTS doors (label text PRIMARY KEY, width integer NOT NULL)";

/// A database, and a runtime that reconciles both tables.
pub struct TwoTables {
    objects: CreatedObjects,
    pub sql: Client,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
    pub database: Database,
}

pub async fn prepare(runtime: &Runtime) {
    let lamps = runtime.prepare(LAMPS, "lamps", "name", &["watts"]);
    let doors = runtime.prepare(DOORS, "doors", "label", &["width"]);
    lamps.await.unwrap();
    doors.await.unwrap();
}

impl TwoTables {
    pub async fn new() -> Self {
        let database = Database::create().await;
        let url = Url::parse(&database.url()).unwrap();
        let mut runtime = Runtime::new(url, &Registry::new());
        prepare(&runtime).await;
        let objects = CreatedObjects::default();
        // No full pass runs during a test: only notifications start work.
        let settings = ControllerSettings {
            resync: Duration::from_secs(3600),
            ..ControllerSettings::default()
        };
        let lease = LeasePolicy {
            ttl: Duration::from_secs(3),
        };
        let lamps = resource::<Lamp>("lamp", &objects);
        runtime.add(lamps, settings, lease).await.unwrap();
        let doors = resource::<Door>("door", &objects);
        runtime.add(doors, settings, lease).await.unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(runtime.run(shutdown.clone()));
        let both = Self {
            objects,
            sql: database.connect().await,
            shutdown,
            running,
            database,
        };
        let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%LISTEN%' AND pid <> pg_backend_pid()";
        both.sql.wait_number(listening, 1).await;
        both
    }

    pub fn made(&self, of: &'static str, key: &str) -> Option<i32> {
        let objects = self.objects.lock().unwrap();
        objects.get(&(of, key.to_owned())).copied()
    }

    pub async fn until_made(&self, of: &'static str, key: &str, size: Option<i32>) {
        eventually(STEPS_TIMEOUT, key, || async { self.made(of, key) == size }).await;
    }

    pub async fn end(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}
