//! Reads `environments.csv`, the cluster list of the bash system.
//!
//! The file has no header. Its columns are: name, provider, node port,
//! port-forward port, register with Portainer, route in HAProxy, HTTP port,
//! HTTPS port, subnet. A missing or empty column gets the default of the bash
//! system. The whole file is checked before any cluster is declared.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::json;

use crate::clusters::{
    ClusterName, Desired, FieldKind, NameError, PartialSpec, Port, Spec, SpecError, SpecField,
    SpecValue,
};
use crate::store::Declaration;

/// Enough for thousands of clusters; a larger file is not such a list.
const MAX_BYTES: u64 = 1024 * 1024;

/// The values that count as true; any other counts as false.
const TRUE: [&str; 5] = ["1", "y", "yes", "true", "on"];

/// The clusters of one file, all of them valid.
#[derive(Clone, Debug)]
pub struct Environments {
    /// In the order of the file.
    pub clusters: Vec<Declaration>,
}

/// Why a list is rejected; lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentsError {
    /// The file cannot be read.
    #[error("seed_csv cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The file is too long for a list of clusters.
    #[error("seed_csv is longer than 1 MiB: use a list with one cluster per line")]
    TooLong,
    /// The file is not UTF-8.
    #[error("seed_csv is not UTF-8 text: use a list with one cluster per line")]
    NotText(#[from] std::string::FromUtf8Error),
    /// A line has too many columns.
    #[error(
        "line {0}: more than 9 columns: use env,provider,node_port,pf_port,register_portainer,haproxy_route,http_port,https_port,cluster_subnet"
    )]
    Columns(usize),
    /// The name is invalid.
    #[error("line {line}: {why}")]
    Name {
        /// The line.
        line: usize,
        /// The rule.
        why: NameError,
    },
    /// A value is invalid.
    #[error("line {line}: {why}")]
    Value {
        /// The line.
        line: usize,
        /// The field and its limit.
        why: SpecError,
    },
    /// Two lines have the same name.
    #[error("line {line}: {name} is already in line {first}: list each cluster once")]
    Twice {
        /// The line.
        line: usize,
        /// The name.
        name: ClusterName,
        /// The line that has it first.
        first: usize,
    },
}

/// Reads a list from the file of this name.
///
/// # Errors
/// [`EnvironmentsError`] names the line, the field and the limit.
pub fn environments(path: &str) -> Result<Environments, EnvironmentsError> {
    let mut text = Vec::new();
    File::open(Path::new(path))?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(EnvironmentsError::TooLong);
    }
    parse(&String::from_utf8(text)?)
}

fn parse(text: &str) -> Result<Environments, EnvironmentsError> {
    let mut lines = HashMap::new();
    let mut clusters = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let columns: Vec<&str> = text.split(',').map(str::trim).collect();
        if columns[0].starts_with('#') || columns.iter().all(|column| column.is_empty()) {
            continue;
        }
        let cluster = cluster(&columns, line)?;
        if let Some(first) = lines.insert(cluster.name.clone(), line) {
            let name = cluster.name;
            return Err(EnvironmentsError::Twice { line, name, first });
        }
        clusters.push(cluster);
    }
    Ok(Environments { clusters })
}

fn cluster(columns: &[&str], line: usize) -> Result<Declaration, EnvironmentsError> {
    // Empty columns at the end of a line are allowed.
    if columns.len() > 9 && columns[9..].iter().any(|column| !column.is_empty()) {
        return Err(EnvironmentsError::Columns(line));
    }
    let column = |index: usize| columns.get(index).copied().unwrap_or_default();
    let value = |why| EnvironmentsError::Value { line, why };
    let mut spec = PartialSpec::default();
    for field in Spec::FIELDS {
        let given = match field.csv_column {
            Some(index) => given(field, column(index)).map_err(value)?,
            // The file has no column for it.
            None => Some(field.default()),
        };
        if let Some(given) = given {
            spec.set(field, given);
        }
    }
    let new = Declaration {
        name: column(0)
            .parse()
            .map_err(|why| EnvironmentsError::Name { line, why })?,
        spec,
        labels: json!({}),
        paused: false,
        desired: Desired::Present,
    };
    new.check().map_err(value)?;
    Ok(new)
}

/// The value of a column. An empty port of the host is not given: it gets a free one.
fn given(field: &SpecField, text: &str) -> Result<Option<SpecValue>, SpecError> {
    if text.is_empty() && field.host_port_of().is_some() {
        return Ok(None);
    }
    Ok(Some(match field.kind {
        FieldKind::Provider => SpecValue::Provider(text.parse()?),
        FieldKind::Subnet if text.is_empty() => SpecValue::Subnet(None),
        FieldKind::Subnet => SpecValue::Subnet(Some(text.parse()?)),
        FieldKind::Port { .. } if text.is_empty() => field.default(),
        FieldKind::Port { .. } => SpecValue::Port(Port::parse(field.name, text)?),
        FieldKind::Flag { .. } => {
            SpecValue::Flag(TRUE.contains(&text.to_ascii_lowercase().as_str()))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lists_of_the_bash_system_are_read_with_its_defaults() {
        let list = "# env,provider,node_port,...\r\n\r\n  , \n\
                    dev,kind,30081,19001,true,off,18091,18444,\r\n\
                    uat , k3d , , 19002 , 1 , YES , 18092 , 18445 , 10.101.0.0/16 \n\
                    bare,kind\n";
        let clusters = parse(list).unwrap().clusters;
        let sql: Vec<String> = clusters.iter().map(|new| new.as_sql()).collect();
        assert_eq!(
            sql,
            [
                "INSERT INTO clusters (name, provider, node_port, pf_port, http_port, https_port, haproxy_route) \
                 VALUES ('dev', 'kind', 30081, 19001, 18091, 18444, false);",
                "INSERT INTO clusters (name, provider, node_port, pf_port, http_port, https_port, subnet) \
                 VALUES ('uat', 'k3d', 30080, 19002, 18092, 18445, '10.101.0.0/16');",
                "INSERT INTO clusters (name, provider, node_port, register_portainer, haproxy_route) \
                 VALUES ('bare', 'kind', 30080, false, false);",
            ]
        );
    }

    #[test]
    fn an_error_names_the_line_and_the_field() {
        for (list, parts) in [
            ("# x\nDev,kind\n", &["line 2", "name", "Dev"][..]),
            ("dev,k8s\n", &["line 1", "provider", "k3d or kind"]),
            ("dev,kind,99999\n", &["line 1", "node_port 99999", "65535"]),
            ("dev,kind,x\n", &["line 1", "node_port x", "65535"]),
            (
                "a,kind\n\nb,k3d,1,1,y,y,1,1,10.1.1.1/16\n",
                &["line 3", "subnet"],
            ),
            (
                "a,kind\nb,kind\na,k3d\n",
                &["line 3", "a is already in line 1"],
            ),
            ("a,kind,1,1,1,1,1,1,,x\n", &["line 1", "9 columns"]),
            (
                "a-name-that-is-much-too-long-for-k3d,k3d\n",
                &["line 1", "32"],
            ),
        ] {
            let error = parse(list).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        }
    }
}
