//! The driver of `kindler dev` where none is set: native where an engine and k3d or kind answer,
//! else sandbox; but that of the clusters that exist, because they never change their driver.

use crate::command::LogDir;
use crate::config::{DaemonSettings, DriverKind};
use crate::core::database::Database;
use crate::drivers::Driver;
use crate::drivers::native::NativeDriver;
use crate::store::{DriverUse, Store};

use super::DaemonError;
use super::driver::native;

/// Replaces the driver auto in the settings by the driver to use. The text says why.
pub(super) async fn resolve(
    settings: &mut DaemonSettings,
    database: &Database,
) -> Result<Option<String>, DaemonError> {
    if settings.serving.driver != DriverKind::Auto {
        return Ok(None);
    }
    let used = Store::new(database, 1, "dev").drivers().await?;
    let (driver, why) = match of_clusters(&used) {
        Some(chosen) => chosen,
        None => of_host(unusable(settings).await),
    };
    settings.serving.driver = driver;
    Ok(Some(why))
}

/// Why this host can make no real clusters; none if it can.
async fn unusable(settings: &DaemonSettings) -> Option<String> {
    let logs = LogDir::new(settings.connection.log_dir());
    let driver = NativeDriver::new(native(settings, None, logs));
    let faults = driver.host_faults().await;
    faults
        .into_iter()
        .find(|fault| fault.blocks)
        .map(|fault| fault.what)
}

/// The driver of the clusters that exist: of most of them, if there are several.
fn of_clusters(used: &[DriverUse]) -> Option<(DriverKind, String)> {
    let known = |used: &DriverUse| match used.driver.as_str() {
        "native" => Some((DriverKind::Native, "sandbox")),
        "sandbox" => Some((DriverKind::Sandbox, "native")),
        _ => None,
    };
    let (used, (driver, other)) = used.iter().find_map(|used| Some((used, known(used)?)))?;
    let why = format!(
        "clusters made with it: {}; KINDLER_DRIVER={other} leaves them alone and makes new ones",
        used.clusters
    );
    Some((driver, why))
}

fn of_host(fault: Option<String>) -> (DriverKind, String) {
    match fault {
        None => {
            let why = "a container engine and k3d or kind answer; KINDLER_DRIVER=sandbox uses none";
            (DriverKind::Native, why.to_owned())
        }
        Some(fault) => (
            DriverKind::Sandbox,
            format!("no real clusters here: {fault}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(all: &[(&str, i64)]) -> Option<DriverKind> {
        let all = all.iter().map(|(driver, clusters)| DriverUse {
            driver: (*driver).to_owned(),
            clusters: *clusters,
        });
        of_clusters(&all.collect::<Vec<_>>()).map(|(driver, _)| driver)
    }

    #[test]
    fn clusters_that_exist_keep_their_driver() {
        assert_eq!(used(&[]), None);
        assert_eq!(used(&[("script", 3)]), None);
        assert_eq!(used(&[("sandbox", 1)]), Some(DriverKind::Sandbox));
        let most_first = [("script", 9), ("native", 2), ("sandbox", 1)];
        assert_eq!(used(&most_first), Some(DriverKind::Native));
    }

    #[test]
    fn a_host_without_an_engine_gets_sandboxes_and_the_reason() {
        assert_eq!(of_host(None).0, DriverKind::Native);
        let (driver, why) = of_host(Some("k3d is not found".to_owned()));
        assert_eq!(driver, DriverKind::Sandbox);
        assert_eq!(why, "no real clusters here: k3d is not found");
    }
}
