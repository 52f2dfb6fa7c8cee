//! The contract only grows: every message, field, enum value and method of the golden descriptor is in ours, unchanged.
//!
//! `testdata/contract/push.v1.golden.binpb` is the contract that peers were built against; `push.proto` beside it is
//! its source.

use std::collections::BTreeMap;

use galaxy_push_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

const CONTRACT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/contract");

#[test]
fn the_contract_keeps_every_golden_name_number_and_type() {
    assert_eq!(changes(&golden(), &ours()), Vec::<String>::new());
}

#[test]
fn the_golden_descriptor_is_its_source_compiled() {
    let compiled = protox::compile(["push.proto"], [CONTRACT]).unwrap();
    let source = inventory(compiled.file.iter().find(|file| file.package() == "push.v1").unwrap());
    assert_eq!(source, inventory(&golden()));
    assert!(source.len() > 150, "{} entries", source.len());
}

#[test]
fn a_changed_contract_is_reported() {
    type Change = fn(&mut FileDescriptorProto);
    let table: [(Change, &str); 11] = [
        (
            |file| field(file, "Event", "data").number = Some(40),
            "field push.v1.Event.data: was 4 bytes, is 40 bytes",
        ),
        (
            |file| field(file, "Event", "id").set_type(prost_types::field_descriptor_proto::Type::Bytes),
            "field push.v1.Event.id: was 2 string, is 2 bytes",
        ),
        (
            |file| field(file, "Event", "to").set_label(prost_types::field_descriptor_proto::Label::Optional),
            "field push.v1.Event.to: was 1 repeated string, is 1 string",
        ),
        (
            |file| field(file, "PushEvent", "gap").type_name = Some(".push.v1.Goodbye".into()),
            "field push.v1.PushEvent.gap: was 12 .push.v1.Gap in oneof kind, is 12 .push.v1.Goodbye in oneof kind",
        ),
        (
            |file| field(file, "PushEvent", "gap").oneof_index = None,
            "field push.v1.PushEvent.gap: was 12 .push.v1.Gap in oneof kind, is 12 .push.v1.Gap",
        ),
        (
            |file| field(file, "Gap", "count").proto3_optional = None,
            "field push.v1.Gap.count: was 4 optional uint64, is 4 uint64 in oneof _count",
        ),
        (
            |file| message(file, "Event").field.retain(|field| field.name() != "id"),
            "field push.v1.Event.id: was 2 string, is gone",
        ),
        (
            |file| file.message_type.retain(|message| message.name() != "Progress"),
            "message push.v1.Progress is gone",
        ),
        (
            |file| file.enum_type[0].value[1].number = Some(9),
            "value push.v1.Outcome.OUTCOME_RESUMED: was 1, is 9",
        ),
        (
            |file| service(file, "Push").method.retain(|method| method.name() != "Replay"),
            "method push.v1.Push.Replay: was .push.v1.ReplayRequest -> stream .push.v1.PushEvent, is gone",
        ),
        (
            |file| service(file, "Push").method[0].server_streaming = Some(false),
            "method push.v1.Push.SubscribePush: was .push.v1.GatewaySubscribeRequest -> stream \
             .push.v1.PushEvent, is .push.v1.GatewaySubscribeRequest -> .push.v1.PushEvent",
        ),
    ];
    for (change, wanted) in table {
        let mut changed = ours();
        change(&mut changed);
        let found = changes(&golden(), &changed);
        assert!(found.iter().any(|line| line == wanted), "{wanted}\nnot in {found:#?}");
    }
}

fn golden() -> FileDescriptorProto {
    let bytes = std::fs::read(format!("{CONTRACT}/push.v1.golden.binpb")).unwrap();
    contract(&bytes)
}

fn ours() -> FileDescriptorProto {
    contract(FILE_DESCRIPTOR_SET)
}

fn contract(descriptor_set: &[u8]) -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(descriptor_set).unwrap();
    set.file.into_iter().find(|file| file.package() == "push.v1").unwrap()
}

/// What of `old` is changed or gone in `new`, one line each.
fn changes(old: &FileDescriptorProto, new: &FileDescriptorProto) -> Vec<String> {
    let new = inventory(new);
    inventory(old)
        .into_iter()
        .filter_map(|(name, was)| match new.get(&name) {
            Some(is) if *is == was => None,
            Some(is) => Some(format!("{name}: was {was}, is {is}")),
            None if was.is_empty() => Some(format!("{name} is gone")),
            None => Some(format!("{name}: was {was}, is gone")),
        })
        .collect()
}

/// Everything a file declares, by kind and full name, with what must not change about it.
fn inventory(file: &FileDescriptorProto) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    for message in &file.message_type {
        add_message(&mut entries, file.package(), message);
    }
    for declared in &file.enum_type {
        add_enum(&mut entries, file.package(), declared);
    }
    for service in &file.service {
        add_service(&mut entries, file.package(), service);
    }
    entries
}

fn add_message(entries: &mut BTreeMap<String, String>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    entries.insert(format!("message {name}"), String::new());
    for field in &message.field {
        entries.insert(format!("field {name}.{}", field.name()), describe(message, field));
    }
    for nested in &message.nested_type {
        add_message(entries, &name, nested);
    }
    for declared in &message.enum_type {
        add_enum(entries, &name, declared);
    }
}

fn describe(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    use prost_types::field_descriptor_proto::Label;
    let label = match field.label() {
        Label::Repeated => "repeated ",
        Label::Required => "required ",
        Label::Optional if field.proto3_optional() => "optional ",
        Label::Optional => "",
    };
    let kind = match &field.type_name {
        Some(named) => named.clone(),
        None => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let oneof = match field.oneof_index {
        Some(index) if !field.proto3_optional() => {
            format!(" in oneof {}", message.oneof_decl[index as usize].name())
        }
        _ => String::new(),
    };
    format!("{} {label}{kind}{oneof}", field.number())
}

fn add_enum(entries: &mut BTreeMap<String, String>, scope: &str, declared: &EnumDescriptorProto) {
    let name = format!("{scope}.{}", declared.name());
    entries.insert(format!("enum {name}"), String::new());
    for value in &declared.value {
        entries.insert(format!("value {name}.{}", value.name()), value.number().to_string());
    }
}

fn add_service(entries: &mut BTreeMap<String, String>, scope: &str, service: &ServiceDescriptorProto) {
    let name = format!("{scope}.{}", service.name());
    entries.insert(format!("service {name}"), String::new());
    for method in &service.method {
        let streamed = |streams| if streams { "stream " } else { "" };
        let types = format!(
            "{}{} -> {}{}",
            streamed(method.client_streaming()),
            method.input_type(),
            streamed(method.server_streaming()),
            method.output_type()
        );
        entries.insert(format!("method {name}.{}", method.name()), types);
    }
}

fn message<'a>(file: &'a mut FileDescriptorProto, name: &str) -> &'a mut DescriptorProto {
    file.message_type.iter_mut().find(|message| message.name() == name).unwrap()
}

fn field<'a>(file: &'a mut FileDescriptorProto, owner: &str, name: &str) -> &'a mut FieldDescriptorProto {
    message(file, owner).field.iter_mut().find(|field| field.name() == name).unwrap()
}

fn service<'a>(file: &'a mut FileDescriptorProto, name: &str) -> &'a mut ServiceDescriptorProto {
    file.service.iter_mut().find(|service| service.name() == name).unwrap()
}
