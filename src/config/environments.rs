//! The list of clusters that the old system kept in a file, `environments.csv`.
//!
//! Its columns, in this order, have no header: name, provider, node port,
//! port-forward port, register with Portainer, route in HAProxy, HTTP port,
//! HTTPS port, subnet. What is left out at the end of a line, or empty, gets the
//! old defaults. Everything is checked before anything is declared.

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

/// A list of thousands of clusters is far below this; another file is above it.
const LONGEST: u64 = 1024 * 1024;

/// What the flags of the old lists call true; anything else is false.
const TRUE: [&str; 5] = ["1", "y", "yes", "true", "on"];

/// The clusters of one file, all of them allowed.
#[derive(Clone, Debug)]
pub struct Environments {
    /// In the file's order.
    pub clusters: Vec<Declaration>,
}

/// Why a list is refused; the line counts from 1.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentsError {
    /// The file cannot be read.
    #[error("seed_csv cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// It is no list of clusters.
    #[error("seed_csv is longer than 1 MiB: use a list with one cluster a line")]
    TooLong,
    /// It is not text.
    #[error("seed_csv is not text in UTF-8: use a list with one cluster a line")]
    NotText(#[from] std::string::FromUtf8Error),
    /// More columns than there are.
    #[error(
        "line {0}: more than 9 columns: use env,provider,node_port,pf_port,register_portainer,haproxy_route,http_port,https_port,cluster_subnet"
    )]
    Columns(usize),
    /// A name that no cluster can have.
    #[error("line {line}: {why}")]
    Name {
        /// Where.
        line: usize,
        /// The limit.
        why: NameError,
    },
    /// A value that no cluster can have.
    #[error("line {line}: {why}")]
    Value {
        /// Where.
        line: usize,
        /// The field and its limit.
        why: SpecError,
    },
    /// One name for two clusters.
    #[error("line {line}: {name} is in line {first} already: name each cluster once")]
    Twice {
        /// Where.
        line: usize,
        /// The name.
        name: ClusterName,
        /// Where it came first.
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
        .take(LONGEST + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
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
    // A comma at the end of a line begins nothing.
    if columns.len() > 9 && columns[9..].iter().any(|column| !column.is_empty()) {
        return Err(EnvironmentsError::Columns(line));
    }
    let column = |index: usize| columns.get(index).copied().unwrap_or_default();
    let value = |why| EnvironmentsError::Value { line, why };
    let mut spec = PartialSpec::default();
    for field in Spec::FIELDS {
        let given = match field.csv_column {
            Some(index) => given(field, column(index)).map_err(value)?,
            // The old lists do not know it.
            None => field.default(),
        };
        spec.set(field, given);
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

/// A column as the value of its field; a port that is empty gets its default.
fn given(field: &SpecField, text: &str) -> Result<SpecValue, SpecError> {
    Ok(match field.kind {
        FieldKind::Provider => SpecValue::Provider(text.parse()?),
        FieldKind::Subnet if text.is_empty() => SpecValue::Subnet(None),
        FieldKind::Subnet => SpecValue::Subnet(Some(text.parse()?)),
        FieldKind::Port { .. } if text.is_empty() => field.default(),
        FieldKind::Port { .. } => SpecValue::Port(Port::parse(field.name, text)?),
        FieldKind::Flag { .. } => {
            SpecValue::Flag(TRUE.contains(&text.to_ascii_lowercase().as_str()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_old_lists_are_read_as_they_were_written() {
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
                "INSERT INTO clusters (name, provider, node_port, pf_port, http_port, https_port, register_portainer, haproxy_route) \
                 VALUES ('bare', 'kind', 30080, 19000, 18080, 18443, false, false);",
            ]
        );
    }

    #[test]
    fn what_cannot_be_is_named_with_its_line() {
        for (list, parts) in [
            ("# x\nDev,kind\n", &["line 2", "name", "Dev"][..]),
            ("dev,k8s\n", &["line 1", "provider", "k3d or kind"]),
            ("dev,kind,99999\n", &["line 1", "node_port 99999", "65535"]),
            ("dev,kind,x\n", &["line 1", "node_port x", "65535"]),
            (
                "a,kind\n\nb,k3d,1,1,y,y,1,1,10.1.1.1/16\n",
                &["line 3", "subnet"],
            ),
            ("a,kind\nb,kind\na,k3d\n", &["line 3", "a is in line 1"]),
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
