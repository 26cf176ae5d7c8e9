//! A field of a spec, for the code that handles all fields alike: statements, bodies,
//! flags, lists and the page.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::{Port, Provider, Subnet};

/// One field of a spec, as `spec!` declares it.
#[derive(Debug, PartialEq, Eq)]
pub struct SpecField {
    /// The name of its column, used everywhere unless another one is given below.
    pub name: &'static str,
    /// Its description in the API.
    pub about: &'static str,
    /// Type, default and limits.
    pub kind: FieldKind,
    /// Its help on the command line, without the default.
    pub help: &'static str,
    /// Its name in the API's JSON.
    pub api_name: &'static str,
    /// The short name of a port in `kindler get`.
    pub label: &'static str,
    /// If the flag registers the cluster with a service: its name in `kindler get`.
    pub service: Option<&'static str>,
    /// Its short flag.
    pub short_flag: Option<char>,
    /// Whether it is fixed for the life of the row.
    pub fixed: bool,
    /// Whether people need it to reach the cluster; such fields are shown first.
    pub main: bool,
    /// Its column in `environments.csv`, from 0.
    pub csv_column: Option<usize>,
}

/// Type, default and limits of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `k3d` or `kind`; k3d by default.
    Provider,
    /// An IPv4 network or none; none by default.
    Subnet,
    /// A port.
    Port {
        /// The default of the API and of the table.
        default: u16,
        /// If it is a port of the host: how a free one is chosen.
        host: Option<HostPort>,
    },
    /// On or off.
    Flag {
        /// The default.
        default: bool,
    },
}

/// A port of the host. Those of one cluster differ, and a free one can be searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Two clusters conflict if they declare the same port in one pool.
    pub pool: &'static str,
    /// The range in which a free one is searched.
    pub free: RangeInclusive<u16>,
}

impl SpecField {
    const fn new(help: &'static str, kind: FieldKind) -> Self {
        Self {
            name: "",
            about: "",
            kind,
            help,
            api_name: "",
            label: "",
            service: None,
            short_flag: None,
            fixed: false,
            main: false,
            csv_column: None,
        }
    }

    pub(super) const fn provider(help: &'static str) -> Self {
        Self::new(help, FieldKind::Provider)
    }

    pub(super) const fn subnet(help: &'static str) -> Self {
        Self::new(help, FieldKind::Subnet)
    }

    pub(super) const fn port(help: &'static str, default: u16) -> Self {
        let host = None;
        Self::new(help, FieldKind::Port { default, host })
    }

    pub(super) const fn host_port(
        help: &'static str,
        default: u16,
        pool: &'static str,
        free: RangeInclusive<u16>,
    ) -> Self {
        let host = Some(HostPort { pool, free });
        Self::new(help, FieldKind::Port { default, host })
    }

    pub(super) const fn flag(help: &'static str, default: bool) -> Self {
        Self::new(help, FieldKind::Flag { default })
    }

    pub(super) const fn fixed(mut self) -> Self {
        self.fixed = true;
        self
    }

    pub(super) const fn main(mut self) -> Self {
        self.main = true;
        self
    }

    pub(super) const fn short_flag(mut self, short: char) -> Self {
        self.short_flag = Some(short);
        self
    }

    pub(super) const fn api_name(mut self, name: &'static str) -> Self {
        self.api_name = name;
        self
    }

    pub(super) const fn label(mut self, label: &'static str) -> Self {
        self.label = label;
        self
    }

    pub(super) const fn service(mut self, service: &'static str) -> Self {
        self.service = Some(service);
        self
    }

    pub(super) const fn csv_column(mut self, position: usize) -> Self {
        self.csv_column = Some(position);
        self
    }

    pub(super) const fn named(mut self, name: &'static str, about: &'static str) -> Self {
        self.name = name;
        self.about = about.trim_ascii();
        if self.api_name.is_empty() {
            self.api_name = name;
        }
        if self.label.is_empty() {
            self.label = name;
        }
        self
    }

    /// The value of a declaration that does not give it, if no free port is searched.
    pub fn default(&self) -> SpecValue {
        match self.kind {
            FieldKind::Provider => SpecValue::Provider(Provider::K3d),
            FieldKind::Subnet => SpecValue::Subnet(None),
            FieldKind::Port { default, .. } => {
                let port = Port::new(self.name, i64::from(default));
                SpecValue::Port(port.expect("a default is a port"))
            }
            FieldKind::Flag { default } => SpecValue::Flag(default),
        }
    }

    /// Its position where a cluster is shown: main fields, then other ports of the host,
    /// then the rest.
    pub fn display_order(&self) -> u8 {
        match (self.main, self.host_port_of()) {
            (true, _) => 0,
            (false, Some(_)) => 1,
            (false, None) => 2,
        }
    }

    /// Its position in commands and statements for people: provider and ports, then the
    /// subnet, then flags.
    pub fn statement_order(&self) -> u8 {
        match self.kind {
            FieldKind::Provider | FieldKind::Port { .. } => 0,
            FieldKind::Subnet => 1,
            FieldKind::Flag { .. } => 2,
        }
    }

    /// If it is a port of the host: how a free one is chosen.
    pub fn host_port_of(&self) -> Option<&HostPort> {
        match &self.kind {
            FieldKind::Port { host, .. } => host.as_ref(),
            _ => None,
        }
    }

    /// Its option on command lines; the option of a flag inverts the default.
    pub fn option(&self) -> String {
        let option = self.name.replace('_', "-");
        match self.kind {
            FieldKind::Flag { default: true } => format!("no-{option}"),
            _ => option,
        }
    }

    /// The option with its value; `None` for a flag with its default and for no subnet.
    pub fn option_for(&self, value: SpecValue) -> Option<(String, Option<String>)> {
        match value {
            SpecValue::Flag(_) => (value != self.default()).then(|| (self.option(), None)),
            SpecValue::Subnet(None) => None,
            value => Some((self.option(), Some(value.to_string()))),
        }
    }
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SpecValue {
    /// Of a [`FieldKind::Provider`].
    Provider(Provider),
    /// Of a [`FieldKind::Subnet`].
    Subnet(Option<Subnet>),
    /// Of a [`FieldKind::Port`].
    Port(Port),
    /// Of a [`FieldKind::Flag`].
    Flag(bool),
}

/// The text for people; empty for no subnet.
impl fmt::Display for SpecValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(provider) => provider.fmt(f),
            Self::Subnet(Some(subnet)) => subnet.fmt(f),
            Self::Subnet(None) => Ok(()),
            Self::Port(port) => port.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

/// The Rust type of a field.
pub(super) trait FieldType: Copy {
    fn value(self) -> SpecValue;
    fn of(value: SpecValue) -> Option<Self>;
}

macro_rules! field_types {
    ($($type:ty = $variant:ident;)+) => {
        $(impl FieldType for $type {
            fn value(self) -> SpecValue {
                SpecValue::$variant(self)
            }
            fn of(value: SpecValue) -> Option<Self> {
                match value {
                    SpecValue::$variant(value) => Some(value),
                    _ => None,
                }
            }
        })+
    };
}
field_types! {
    Provider = Provider;
    Option<Subnet> = Subnet;
    Port = Port;
    bool = Flag;
}

/// Declares the fields of a spec, each with its type (`as` the type of Postgres in which
/// it is read) and its [`SpecField`].
///
/// It generates [`Spec`](super::Spec), [`PartialSpec`](super::PartialSpec), the list of
/// fields and `spec_columns!`.
macro_rules! spec {
    ($($(#[doc = $about:literal])+ $field:ident: $type:ty $(as $read_as:ident)? = $declared:expr;)+) => {
        /// The declared shape of a cluster. A real change of it raises `generation`.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Spec {
            $($(#[doc = $about])+ pub $field: $type,)+
        }

        /// The fields of a spec that a declaration or a change gives.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct PartialSpec {
            $(
                $(#[doc = $about])+
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )+
        }

        impl Spec {
            /// Every field, in the order in which they are listed.
            pub const FIELDS: &'static [SpecField] = &[
                $($declared.named(stringify!($field), concat!($($about),+)),)+
            ];

            /// Reads every field with `read`, which returns a value of the field's kind.
            ///
            /// # Errors
            /// The first error of `read`.
            pub fn read<E>(
                mut read: impl FnMut(&'static SpecField) -> Result<SpecValue, E>,
            ) -> Result<Self, E> {
                let mut fields = Self::FIELDS.iter();
                let mut next = || read(fields.next().expect("as many as the spec has"));
                Ok(Self {
                    $($field: FieldType::of(next()?).expect("a value of the field's kind"),)+
                })
            }

            /// Every field with its value.
            pub fn values(&self) -> impl Iterator<Item = (&'static SpecField, SpecValue)> {
                Self::FIELDS.iter().zip([$(FieldType::value(self.$field)),+])
            }

            /// Whether the kind of every field is that of its type.
            #[cfg(test)]
            fn kinds_are_those_of_types() -> bool {
                let is = [$(|value| <$type as FieldType>::of(value).is_some()),+];
                Self::FIELDS.iter().zip(is).all(|(field, is)| is(field.default()))
            }
        }

        impl PartialSpec {
            /// Sets a field to a value of its kind.
            pub fn set(&mut self, field: &SpecField, value: SpecValue) {
                match field.name {
                    $(stringify!($field) => self.$field = FieldType::of(value),)+
                    _ => {}
                }
            }

            /// The given fields with their values.
            pub fn values(&self) -> impl Iterator<Item = (&'static SpecField, SpecValue)> {
                let values = [$(self.$field.map(FieldType::value)),+];
                let named = Spec::FIELDS.iter().zip(values);
                named.filter_map(|(field, value)| Some((field, value?)))
            }
        }

        /// The columns of a spec for SELECT from the alias `c`.
        macro_rules! spec_columns {
            () => {
                concat!($(
                    ", c.", stringify!($field)
                    $(, "::", stringify!($read_as), " AS ", stringify!($field))?
                ),+)
            };
        }
        pub(crate) use spec_columns;
    };
}
pub(super) use spec;
