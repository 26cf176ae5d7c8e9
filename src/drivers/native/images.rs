//! The step `images`: copies images of the engine into the nodes, so that pods start without a
//! registry. It pulls only if the settings say so.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clusters::Provider;
use crate::command::CommandLine;
use crate::core::steps::StepObservation;

use super::error::NativeError;
use super::node::Node;
use super::work::{LOOK_AGAIN, NativeWork, in_place};

/// What k3s v1.31 itself needs. Other versions need others, so none of them is missed.
const OF_K3S: [&str; 4] = [
    "rancher/mirrored-pause:3.6",
    "rancher/mirrored-coredns-coredns:1.12.0",
    "rancher/klipper-helm:v0.9.3-build20241008",
    "rancher/mirrored-library-traefik:2.11.18",
];

const LIST: [&str; 6] = ["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"];
/// As kind's `nodeutils.LoadImageArchive`, for this platform only.
const IMPORT: [&str; 6] = ["ctr", "--namespace", "k8s.io", "images", "import", "-"];

/// How long containerd may take to answer in a node that was just started.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// The images that nodes get.
#[derive(Clone, Debug, Default)]
pub struct NodePreload {
    /// Every one of them must be in the nodes.
    pub images: Vec<String>,
    /// Whether the engine pulls what it does not have.
    pub pull: bool,
}

impl NodePreload {
    /// What the nodes of this provider lack; each with whether it must be there.
    fn missing<'a>(&'a self, provider: Provider, has: &[String]) -> Vec<(&'a str, bool)> {
        if self.images.is_empty() {
            return Vec::new();
        }
        let optional = OF_K3S.iter().filter(|_| provider == Provider::K3d);
        let optional = optional.map(|image| (*image, false));
        let listed = self.images.iter().map(|image| (image.as_str(), true));
        let missing = |(image, _): &(&str, bool)| !has.contains(&full_name(image));
        optional.chain(listed).filter(missing).collect()
    }
}

/// The name under which containerd knows an image: `traefik:v2.10` is
/// `docker.io/library/traefik:v2.10`.
fn full_name(image: &str) -> String {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    let is_registry = first.contains(['.', ':']) || first == "localhost";
    let with_registry = match (is_registry, first) {
        (true, _) => image.to_owned(),
        (false, "") => format!("docker.io/library/{rest}"),
        (false, _) => format!("docker.io/{image}"),
    };
    let last = with_registry.rsplit('/').next().unwrap_or_default();
    match last.contains([':', '@']) {
        true => with_registry,
        false => format!("{with_registry}:latest"),
    }
}

impl NativeWork<'_> {
    /// An image that neither the nodes nor the engine have is missing, too.
    pub async fn observe_images(&self) -> Result<StepObservation, NativeError> {
        let wanted = self.wanted_images().await?;
        if wanted.is_empty() {
            return Ok(StepObservation::InPlace);
        }
        let names: Vec<&str> = wanted.iter().map(|(image, _)| image.as_str()).collect();
        Ok(in_place(Some(format!(
            "its nodes lack {}",
            names.join(", ")
        ))))
    }

    /// Copies what the engine has, and names what it does not have.
    pub async fn import_images(&self) -> Result<(), NativeError> {
        let engine = &self.driver.engine;
        let (mut here, mut absent) = (Vec::new(), Vec::new());
        for (image, on_engine) in self.wanted_images().await? {
            if !on_engine && self.driver.settings.preload.pull {
                engine.pull_image(&image, self.rest()).await?;
            } else if !on_engine {
                absent.push(image);
                continue;
            }
            here.push(image);
        }
        if !here.is_empty() {
            self.import(&here).await?;
        }
        match absent.is_empty() {
            true => Ok(()),
            false => Err(NativeError::NoImages(absent)),
        }
    }

    /// The images that some node lacks, each with whether the engine has it.
    async fn wanted_images(&self) -> Result<Vec<(String, bool)>, NativeError> {
        let preload = &self.driver.settings.preload;
        let mut wanted: Vec<(String, bool)> = Vec::new();
        if preload.images.is_empty() {
            return Ok(wanted);
        }
        for node in self.kubernetes_nodes().await? {
            let has = self.images_of(&node).await?;
            for (image, required) in preload.missing(node.provider, &has) {
                if wanted.iter().any(|(known, _)| known == image) {
                    continue;
                }
                let on_engine = self.driver.engine.has_image(image).await?;
                if on_engine || required {
                    wanted.push((image.to_owned(), on_engine));
                }
            }
        }
        Ok(wanted)
    }

    async fn images_of(&self, node: &Node) -> Result<Vec<String>, NativeError> {
        let until = Instant::now() + STARTS_WITHIN;
        let listed = loop {
            let listed = self.driver.engine.exec(&node.id, &LIST).await?;
            if listed.code == 0 || Instant::now() > until {
                break listed;
            }
            sleep(LOOK_AGAIN).await;
        };
        if listed.code != 0 {
            return Err(NativeError::NodeProgram {
                node: node.name.clone(),
                program: LIST.join(" "),
                code: listed.code,
                said: last_line(&listed.stderr),
            });
        }
        Ok(listed.stdout.lines().map(str::to_owned).collect())
    }

    async fn import(&self, images: &[String]) -> Result<(), NativeError> {
        if self.cluster().spec.provider == Provider::K3d {
            return self
                .tool(&k3d_import(self.cluster().name.as_str(), images))
                .await;
        }
        let names: Vec<&str> = images.iter().map(String::as_str).collect();
        for node in self.kubernetes_nodes().await? {
            let engine = &self.driver.engine;
            let run = engine.exec_with_images(&node.id, &IMPORT, &names, self.rest());
            let imported = run.await?;
            if imported.code != 0 {
                return Err(NativeError::NodeProgram {
                    node: node.name,
                    program: IMPORT.join(" "),
                    code: imported.code,
                    said: last_line(&imported.stderr),
                });
            }
        }
        Ok(())
    }
}

fn k3d_import(cluster: &str, images: &[String]) -> CommandLine {
    let mut args = vec!["image", "import", "--cluster", cluster];
    args.extend(images.iter().map(String::as_str));
    CommandLine::new("k3d", args)
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_their_full_names_in_a_node() {
        for (given, full) in [
            ("traefik", "docker.io/library/traefik:latest"),
            ("traefik:v2.10", "docker.io/library/traefik:v2.10"),
            ("traefik/whoami:v1", "docker.io/traefik/whoami:v1"),
            ("quay.io/a/b:1", "quay.io/a/b:1"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
        ] {
            assert_eq!(full_name(given), full);
        }
    }

    #[test]
    fn system_images_of_k3s_are_not_missed_without_a_list() {
        let none = NodePreload::default();
        assert_eq!(none.missing(Provider::K3d, &[]), []);
        let one = NodePreload {
            images: vec!["traefik:v2.10".into()],
            pull: false,
        };
        assert_eq!(one.missing(Provider::Kind, &[]), [("traefik:v2.10", true)]);
        let has = [full_name("traefik:v2.10"), full_name(OF_K3S[0])];
        let missing = one.missing(Provider::K3d, &has);
        assert_eq!(missing.len(), OF_K3S.len() - 1);
        assert!(missing.iter().all(|(_, required)| !required));
    }
}
