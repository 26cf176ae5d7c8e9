//! The flags of `kindler create` for the fields of a spec, generated from its declaration.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::clusters::{FieldKind, PartialSpec, Port, Provider, Spec, SpecField, SpecValue, Subnet};

use super::values::{ProviderParser, port};

/// The fields that the command line gives.
pub(super) struct SpecArgs(pub(super) PartialSpec);

fn arg(field: &'static SpecField) -> Arg {
    let arg = Arg::new(field.name).long(field.option()).help(help(field));
    let arg = match field.short_flag {
        Some(short) => arg.short(short),
        None => arg,
    };
    match field.kind {
        FieldKind::Provider => arg.value_name("PROVIDER").value_parser(ProviderParser),
        FieldKind::Subnet => arg
            .value_name("CIDR")
            .value_parser(|text: &str| text.parse::<Subnet>()),
        FieldKind::Port { .. } => arg.value_name("PORT").value_parser(port(field.name)),
        FieldKind::Flag { .. } => arg.action(ArgAction::SetTrue),
    }
}

/// The help, with the default of a port.
fn help(field: &SpecField) -> String {
    let help = field.help;
    match &field.kind {
        FieldKind::Port {
            host: Some(host), ..
        } => {
            let (first, last) = (host.free.start(), host.free.end());
            format!("{help}; the first free of {first} to {last} by default")
        }
        FieldKind::Port { default, .. } => format!("{help}; {default} by default"),
        _ => help.to_owned(),
    }
}

fn given(field: &SpecField, matches: &ArgMatches) -> Option<SpecValue> {
    let name = field.name;
    match field.kind {
        FieldKind::Provider => matches
            .get_one::<Provider>(name)
            .copied()
            .map(SpecValue::Provider),
        FieldKind::Subnet => {
            let subnet = matches.get_one::<Subnet>(name);
            subnet.map(|subnet| SpecValue::Subnet(Some(*subnet)))
        }
        FieldKind::Port { .. } => matches.get_one::<Port>(name).copied().map(SpecValue::Port),
        FieldKind::Flag { default } => matches.get_flag(name).then_some(SpecValue::Flag(!default)),
    }
}

impl FromArgMatches for SpecArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut spec = PartialSpec::default();
        for field in Spec::FIELDS {
            if let Some(value) = given(field, matches) {
                spec.set(field, value);
            }
        }
        Ok(Self(spec))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SpecArgs {
    fn augment_args(command: Command) -> Command {
        command.args(Spec::FIELDS.iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
