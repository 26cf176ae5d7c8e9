//! The script driver with bash scripts as commands. A cluster is a file with its port
//! and its state; a journal records the commands.

use std::fs;
use std::path::PathBuf;

use kindler::clusters::Cluster;
use kindler::command::LogDir;
use kindler::drivers::script::{ScriptDriver, ScriptSettings};
use kindler::drivers::{Deadlines, Driver};

use super::rig::{DriverRig, deadlines, write_executable};
use crate::command::rig::{Token, runner};

const CREATE: &str = r#"
echo "start create $KINDLER_NAME pid $$ fence $KINDLER_FENCE" >> journal
while [ $# -gt 0 ]; do
    case $1 in
        -n) name=$2; shift 2 ;;
        --http-port) port=$2; shift 2 ;;
        *) shift ;;
    esac
done
echo "[CREATE] $name"
echo "$port running" > "cluster-$name"
echo "end create $KINDLER_NAME pid $$ fence $KINDLER_FENCE" >> journal
"#;

const DELETE: &str = r#"
echo "start delete $KINDLER_NAME pid $$ fence $KINDLER_FENCE" >> journal
rm -f "cluster-$2"
echo "end delete $KINDLER_NAME pid $$ fence $KINDLER_FENCE" >> journal
"#;

const PROBE: &str = r#"grep -q ' running$' "cluster-$1""#;
const EXISTS: &str = r#"[ -e "cluster-$1" ]"#;
const START: &str = r#"sed -i 's/ .*/ running/' "cluster-$1""#;
const STOP: &str = r#"sed -i 's/ .*/ stopped/' "cluster-$1""#;

pub struct ScriptRig {
    pub dir: tempfile::TempDir,
    token: Token,
}

impl ScriptRig {
    /// Writes a script that runs in the rig's folder.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let folder = self.dir.path().display();
        write_executable(
            &path,
            &format!("#!/bin/bash\ncd {folder} || exit 99\n{text}"),
        );
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn logs(&self) -> LogDir {
        LogDir::new(self.path("logs"))
    }

    pub fn settings(&self) -> ScriptSettings {
        ScriptSettings {
            create: Some(self.path("create_env.sh")),
            delete: Some(self.path("delete_env.sh")),
            probe: Some(self.path("probe.sh")),
            exists: Some(self.path("exists.sh")),
            start: Some(self.path("start.sh")),
            stop: Some(self.path("stop.sh")),
            deadlines: deadlines(),
            logs: self.logs(),
            runner: runner(),
        }
    }
}

impl DriverRig for ScriptRig {
    fn new() -> Self {
        let rig = Self {
            dir: tempfile::tempdir().unwrap(),
            token: Token::new(),
        };
        for (name, text) in [
            ("create_env.sh", CREATE),
            ("delete_env.sh", DELETE),
            ("probe.sh", PROBE),
            ("exists.sh", EXISTS),
            ("start.sh", START),
            ("stop.sh", STOP),
        ] {
            rig.script(name, text);
        }
        rig
    }

    fn driver(&self) -> Box<dyn Driver> {
        Box::new(ScriptDriver::new(self.settings()))
    }

    fn hanging_driver(&self, deadlines: Deadlines) -> Box<dyn Driver> {
        let sleep = &self.token.0;
        let hang = format!("trap '' TERM\nsetsid sleep {sleep} &\nsleep {sleep}\nsleep {sleep}");
        Box::new(ScriptDriver::new(ScriptSettings {
            create: Some(self.script("hang.sh", &hang)),
            deadlines,
            ..self.settings()
        }))
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn kill(&self, cluster: &Cluster) {
        let file = self.path(&format!("cluster-{}", cluster.name));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("running", "unhealthy")).unwrap();
    }

    fn applied_port(&self, cluster: &Cluster) -> Option<u16> {
        let text = self.read(&format!("cluster-{}", cluster.name));
        text.split_once(' ')?.0.parse().ok()
    }
}
