//! The images of the engine, and programs in the containers of nodes.

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::super::limit::StepLimit;
use super::{Engine, EngineError, NOT_FOUND, WITHIN, request};

/// How much of a program's output is kept.
const OUTPUT_BYTES: usize = 1024 * 1024;

/// How a program in a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct NodeExec {
    pub code: i64,
    pub stdout: String,
    pub stderr: String,
}

impl Engine {
    /// Whether the engine has an image.
    pub async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        match request("inspect an image", self.docker()?.inspect_image(image)).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image.
    pub async fn pull_image(&self, image: &str, within: StepLimit) -> Result<(), EngineError> {
        let options = CreateImageOptionsBuilder::new().from_image(image).build();
        let docker = self.docker()?;
        let pulled = docker
            .create_image(Some(options), None, None)
            .try_for_each(async |_| Ok(()));
        limited("pull an image", within, pulled).await
    }

    /// Runs a program in a container, without input.
    pub async fn exec(&self, container: &str, program: &[&str]) -> Result<NodeExec, EngineError> {
        let operation = "run a program in a node";
        let run = self.exec_with(container, program, None);
        limited(operation, StepLimit::fixed(WITHIN), run).await
    }

    /// Runs a program in a container with images of the engine as its input, as `docker save`
    /// prints them. They are not held in memory.
    pub async fn exec_with_images(
        &self,
        container: &str,
        program: &[&str],
        images: &[&str],
        within: StepLimit,
    ) -> Result<NodeExec, EngineError> {
        let run = self.exec_with(container, program, Some(images));
        limited("copy images into a node", within, run).await
    }

    async fn exec_with(
        &self,
        container: &str,
        program: &[&str],
        images: Option<&[&str]>,
    ) -> Result<NodeExec, bollard::errors::Error> {
        use bollard::errors::Error::IOError;
        let docker = self.docker().map_err(|error| IOError {
            err: std::io::Error::other(error),
        })?;
        let options = CreateExecOptions {
            attach_stdin: Some(images.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(program.to_vec()),
            ..CreateExecOptions::default()
        };
        let exec = docker.create_exec(container, options).await?.id;
        let started = docker.start_exec(&exec, None).await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        if let StartExecResults::Attached {
            mut output,
            mut input,
        } = started
        {
            let write = async {
                if let Some(images) = images {
                    let mut archive = Box::pin(docker.export_images(images));
                    while let Some(part) = archive.next().await {
                        // A program that ended early says why itself.
                        if input.write_all(&part?).await.is_err() {
                            break;
                        }
                    }
                    // It reads until the end.
                    let _ = input.shutdown().await;
                }
                Ok(())
            };
            let read = async {
                while let Some(part) = output.next().await {
                    match part? {
                        LogOutput::StdErr { message } => keep(&mut stderr, &message),
                        LogOutput::StdOut { message } | LogOutput::Console { message } => {
                            keep(&mut stdout, &message);
                        }
                        LogOutput::StdIn { .. } => {}
                    }
                }
                Ok::<_, bollard::errors::Error>(())
            };
            futures_util::future::try_join(write, read).await?;
        }
        let ended = docker.inspect_exec(&exec).await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(NodeExec {
            code: ended.exit_code.unwrap_or(-1),
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }
}

fn keep(kept: &mut Vec<u8>, part: &[u8]) {
    let room = OUTPUT_BYTES.saturating_sub(kept.len());
    kept.extend_from_slice(&part[..part.len().min(room)]);
}

/// One operation with a deadline of its own.
async fn limited<T>(
    operation: &'static str,
    within: StepLimit,
    sent: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, EngineError> {
    match timeout(within.time, sent).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(EngineError::Refused { operation, source }),
        Err(_) => Err(EngineError::TooLong { operation, within }),
    }
}
