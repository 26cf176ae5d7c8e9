//! Edits a kubeconfig as a tree: entries and fields that Kindler does not know stay, in their
//! order. Pure.
//!
//! No error contains a part of a kubeconfig, because it gives full access.

use yaml_rust2::yaml::Hash;
use yaml_rust2::{Yaml, YamlEmitter, YamlLoader};

/// Why a file cannot be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TreeFault {
    #[error("it is not YAML")]
    NotYaml,
    #[error("it is not one kubeconfig")]
    NotOne,
    #[error("it has no {0}")]
    Lacks(&'static str),
}

/// One of the three lists of a kubeconfig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Cluster,
    User,
    Context,
}

impl EntryKind {
    pub const ALL: [Self; 3] = [Self::Cluster, Self::User, Self::Context];

    /// The name of the list, and of the field with an entry's body.
    fn fields(self) -> (&'static str, &'static str) {
        match self {
            Self::Cluster => ("clusters", "cluster"),
            Self::User => ("users", "user"),
            Self::Context => ("contexts", "context"),
        }
    }

    /// The fields that say where an entry leads.
    fn decisive(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &["server", "certificate-authority-data"],
            Self::User => &["client-certificate-data", "client-key-data"],
            Self::Context => &["cluster", "user"],
        }
    }
}

/// The names under which a cluster is in a user's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryNames {
    pub context: String,
    pub user: String,
}

impl EntryNames {
    pub fn of(&self, kind: EntryKind) -> &str {
        match kind {
            EntryKind::Cluster | EntryKind::Context => &self.context,
            EntryKind::User => &self.user,
        }
    }
}

/// The bodies of the entries of one cluster.
#[derive(Clone, PartialEq)]
pub(super) struct ClusterEntries {
    names: EntryNames,
    cluster: Yaml,
    user: Yaml,
    context: Yaml,
}

impl ClusterEntries {
    /// The first cluster and user of a cluster's private file, under these names.
    pub fn read(private: &str, names: &EntryNames) -> Result<Self, TreeFault> {
        let tree = ConfigTree::parse(private)?;
        let first = |kind: EntryKind, what| {
            let entry = tree.list(kind).first().ok_or(TreeFault::Lacks(what))?;
            match &entry[kind.fields().1] {
                Yaml::BadValue => Err(TreeFault::Lacks(what)),
                body => Ok(body.clone()),
            }
        };
        let mut context = Hash::new();
        for (key, name) in [("cluster", &names.context), ("user", &names.user)] {
            context.insert(text(key), text(name));
        }
        Ok(Self {
            names: names.clone(),
            cluster: first(EntryKind::Cluster, "cluster")?,
            user: first(EntryKind::User, "user")?,
            context: Yaml::Hash(context),
        })
    }

    pub fn name(&self, kind: EntryKind) -> &str {
        self.names.of(kind)
    }

    fn body(&self, kind: EntryKind) -> &Yaml {
        match kind {
            EntryKind::Cluster => &self.cluster,
            EntryKind::User => &self.user,
            EntryKind::Context => &self.context,
        }
    }

    /// Why an entry does not lead to this cluster; none if it does.
    pub fn difference(&self, kind: EntryKind, entry: Option<&Yaml>) -> Option<String> {
        let name = self.names.of(kind);
        let (_, field) = kind.fields();
        let Some(entry) = entry else {
            return Some(format!("has no {field} {name}"));
        };
        let (has, wanted) = (&entry[field], self.body(kind));
        let other = kind
            .decisive()
            .iter()
            .find(|key| has[**key] != wanted[**key]);
        match (other, kind) {
            (Some(&"server"), _) => {
                let (has, wanted) = (shown(&has["server"]), shown(&wanted["server"]));
                Some(format!("leads {name} to {has}, not to {wanted}"))
            }
            (Some(_), EntryKind::Cluster) => Some(format!(
                "has the certificate authority of another cluster for {name}"
            )),
            (Some(_), EntryKind::User) => Some(format!("has other credentials for {name}")),
            (Some(_), EntryKind::Context) => {
                Some(format!("leads the context {name} to another cluster"))
            }
            // kubectl rejects it beside a certificate authority.
            (None, EntryKind::Cluster)
                if has["insecure-skip-tls-verify"].as_bool() == Some(true) =>
            {
                Some(format!("does not verify the server of {name}"))
            }
            (None, _) => None,
        }
    }
}

fn shown(value: &Yaml) -> String {
    value
        .as_str()
        .map_or("?".to_owned(), |text| text.chars().take(100).collect())
}

fn text(value: &str) -> Yaml {
    Yaml::String(value.to_owned())
}

/// A kubeconfig.
#[derive(Clone, PartialEq)]
pub(super) struct ConfigTree(Hash);

impl ConfigTree {
    /// An empty file is an empty kubeconfig, as for kubectl.
    pub fn parse(content: &str) -> Result<Self, TreeFault> {
        let documents = YamlLoader::load_from_str(content).map_err(|_| TreeFault::NotYaml)?;
        let mut documents = documents.into_iter();
        match (documents.next(), documents.next()) {
            (None | Some(Yaml::Null), None) => Ok(Self::empty()),
            (Some(Yaml::Hash(tree)), None) => Ok(Self(tree)),
            _ => Err(TreeFault::NotOne),
        }
    }

    pub fn empty() -> Self {
        let mut tree = Hash::new();
        tree.insert(text("apiVersion"), text("v1"));
        tree.insert(text("kind"), text("Config"));
        Self(tree)
    }

    pub fn content(&self) -> String {
        let mut content = String::new();
        let mut emitter = YamlEmitter::new(&mut content);
        emitter.multiline_strings(true);
        // Writing to a string does not fail.
        let _ = emitter.dump(&Yaml::Hash(self.0.clone()));
        let content = content.strip_prefix("---\n").unwrap_or(&content);
        format!("{content}\n")
    }

    fn list(&self, kind: EntryKind) -> &[Yaml] {
        match self.0.get(&text(kind.fields().0)) {
            Some(Yaml::Array(entries)) => entries,
            // kubectl writes `null` for an empty list.
            _ => &[],
        }
    }

    pub fn find(&self, kind: EntryKind, name: &str) -> Option<&Yaml> {
        self.list(kind).iter().find(|entry| is_named(entry, name))
    }

    /// The entries of one list, for changes.
    fn entries(&mut self, kind: EntryKind) -> &mut Vec<Yaml> {
        let key = text(kind.fields().0);
        if !matches!(self.0.get(&key), Some(Yaml::Array(_))) {
            // Keeps the position of a `null`.
            match self.0.get_mut(&key) {
                Some(value) => *value = Yaml::Array(Vec::new()),
                None => {
                    self.0.insert(key.clone(), Yaml::Array(Vec::new()));
                }
            }
        }
        match self.0.get_mut(&key) {
            Some(Yaml::Array(entries)) => entries,
            _ => unreachable!("the list was made above"),
        }
    }

    /// Makes the entry lead to the cluster. A person's own fields of a context stay, such as its
    /// namespace.
    pub fn put(&mut self, kind: EntryKind, of: &ClusterEntries) {
        let (_, field) = kind.fields();
        let name = of.names.of(kind);
        let entries = self.entries(kind);
        let position = entries.iter().position(|entry| is_named(entry, name));
        let mut entry = match position.map(|at| entries[at].clone()) {
            Some(Yaml::Hash(entry)) => entry,
            _ => Hash::new(),
        };
        let mut body = match entry.get(&text(field)) {
            Some(Yaml::Hash(body)) if kind == EntryKind::Context => body.clone(),
            _ => Hash::new(),
        };
        if let Yaml::Hash(wanted) = of.body(kind) {
            for (key, value) in wanted {
                set(&mut body, key, value.clone());
            }
        }
        set(&mut entry, &text(field), Yaml::Hash(body));
        set(&mut entry, &text("name"), text(name));
        match position {
            Some(at) => entries[at] = Yaml::Hash(entry),
            None => entries.push(Yaml::Hash(entry)),
        }
    }

    /// Removes the entry if it leads to the cluster; if that is not known any more, if it leads to
    /// this host. Returns whether there was one.
    pub fn remove(
        &mut self,
        kind: EntryKind,
        names: &EntryNames,
        of: Option<&ClusterEntries>,
    ) -> bool {
        let name = names.of(kind);
        let leads = |entry: &Yaml| match of {
            Some(of) => {
                let (has, wanted) = (&entry[kind.fields().1], of.body(kind));
                let mut decisive = kind.decisive().iter();
                decisive.any(|key| has[*key] != Yaml::BadValue && has[*key] == wanted[*key])
            }
            None => kind != EntryKind::Cluster || is_local(&entry["cluster"]["server"]),
        };
        if !self.find(kind, name).is_some_and(leads) {
            return false;
        }
        self.entries(kind).retain(|entry| !is_named(entry, name));
        true
    }

    pub fn current_context(&self) -> Option<&str> {
        let current = self.0.get(&text("current-context"))?.as_str()?;
        (!current.is_empty()).then_some(current)
    }

    pub fn set_current_context(&mut self, name: &str) {
        set(&mut self.0, &text("current-context"), text(name));
    }
}

fn is_named(entry: &Yaml, name: &str) -> bool {
    entry["name"].as_str() == Some(name)
}

fn is_local(server: &Yaml) -> bool {
    let server = server.as_str().unwrap_or_default();
    [
        "https://127.0.0.1:",
        "https://0.0.0.0:",
        "https://localhost:",
    ]
    .iter()
    .any(|local| server.starts_with(local))
}

/// Sets a value, at its position if it is there.
fn set(hash: &mut Hash, key: &Yaml, value: Yaml) {
    match hash.get_mut(key) {
        Some(known) => *known = value,
        None => {
            hash.insert(key.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn names() -> EntryNames {
        EntryNames {
            context: "k3d-dev".into(),
            user: "admin@k3d-dev".into(),
        }
    }

    fn private(port: u16, authority: &str) -> String {
        format!(
            "clusters:\n- cluster:\n    certificate-authority-data: {authority}\n    \
             server: https://127.0.0.1:{port}\n  name: any\nusers:\n- name: any\n  user:\n    \
             client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n"
        )
    }

    fn entries(port: u16, authority: &str) -> ClusterEntries {
        ClusterEntries::read(&private(port, authority), &names()).unwrap()
    }

    fn merged(content: &str, of: &ClusterEntries) -> ConfigTree {
        let mut tree = ConfigTree::parse(content).unwrap();
        for kind in EntryKind::ALL {
            tree.put(kind, of);
        }
        tree
    }

    const OF_USER: &str = "apiVersion: v1\nkind: Config\npreferences: {}\nx-own: 1e3\n\
        current-context: \"yes\"\nclusters: null\nusers:\n  - name: aws\n    user:\n      exec:\n        \
        command: aws\n        args:\n          - \"--region\"\n        env: ~\n      token: \"0123\"\n      \
        note: |\n        two\n        lines\ncontexts:\n  - context:\n      cluster: prod\n      user: aws\n    \
        name: \"yes\"\n";

    #[test]
    fn everything_else_in_a_file_stays_as_it_is() {
        let of = entries(6443, "Q0E=");
        let tree = merged(OF_USER, &of);
        let content = tree.content();
        let without_list = OF_USER.replace("clusters: null\n", "");
        for line in without_list.lines() {
            assert!(content.contains(line), "{line} in\n{content}");
        }
        assert!(content.starts_with("apiVersion: v1\nkind: Config\npreferences: {}\nx-own: 1e3\n"));
        assert_eq!(ConfigTree::parse(&content).unwrap().content(), content);
        let mut again = ConfigTree::parse(&content).unwrap();
        for kind in EntryKind::ALL {
            assert_eq!(
                of.difference(kind, again.find(kind, names().of(kind))),
                None
            );
            assert!(again.remove(kind, &names(), Some(&of)));
        }
        assert_eq!(
            again.content(),
            OF_USER.replace("clusters: null", "clusters: []")
        );
    }

    #[test]
    fn an_entry_of_another_cluster_is_recognised() {
        let mut tree = merged("", &entries(6443, "Q0E="));
        let moved = entries(7000, "Q0E=");
        let other = entries(6443, "T1RIRVI=");
        let of_tree = |tree: &ConfigTree, of: &ClusterEntries| {
            of.difference(EntryKind::Cluster, tree.find(EntryKind::Cluster, "k3d-dev"))
        };
        assert_eq!(
            of_tree(&tree, &moved).unwrap(),
            "leads k3d-dev to https://127.0.0.1:6443, not to https://127.0.0.1:7000"
        );
        assert!(
            of_tree(&tree, &other)
                .unwrap()
                .contains("of another cluster")
        );
        // What leads elsewhere is not removed.
        let elsewhere = entries(7000, "T1RIRVI=");
        assert!(!tree.remove(EntryKind::Cluster, &names(), Some(&elsewhere)));
        assert!(tree.remove(EntryKind::Cluster, &names(), None));
    }

    #[test]
    fn the_namespace_of_a_context_stays() {
        let of = entries(6443, "Q0E=");
        let content = "contexts:\n  - name: k3d-dev\n    context:\n      namespace: shop\n      \
                       cluster: old\n";
        let content = merged(content, &of).content();
        assert!(
            content.contains("namespace: shop\n      cluster: k3d-dev\n"),
            "{content}"
        );
        let insecure = merged("", &of).content().replace(
            "    server:",
            "    insecure-skip-tls-verify: true\n      server:",
        );
        let tree = ConfigTree::parse(&insecure).unwrap();
        let found = tree.find(EntryKind::Cluster, "k3d-dev");
        assert!(
            of.difference(EntryKind::Cluster, found).is_some(),
            "{insecure}"
        );
    }

    #[test]
    fn what_is_no_kubeconfig_is_not_edited() {
        for content in ["- a\n", "text", "a: 1\n---\nb: 2\n", "a: [S0VZ\n"] {
            assert!(ConfigTree::parse(content).is_err(), "{content}");
        }
        assert!(ClusterEntries::read("clusters: []", &names()).is_err());
    }
}
