//! Generates the contract's Rust code and descriptor, and checks that the committed files are the same.
//!
//! `UPDATE_GENERATED=1 cargo test -p galaxy-push-proto` writes them anew after a change of the proto file. There is no
//! build script, so users of the crate compile neither a protobuf compiler nor a code generator.

use std::{fs, path::Path};

use prost::Message as _;

const PROTO_ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
const GENERATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/generated");
const FILES: [&str; 2] = ["push.v1.rs", "push_descriptor.bin"];

#[test]
fn generated_code_is_fresh() {
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    fs::create_dir_all(&fresh).unwrap();
    generate(&fresh);

    let update = std::env::var_os("UPDATE_GENERATED").is_some();
    for file in FILES {
        let wanted = fs::read(fresh.join(file)).unwrap();
        let committed = Path::new(GENERATED).join(file);
        if update {
            fs::write(&committed, &wanted).unwrap();
        }
        let found = fs::read(&committed).unwrap_or_default();
        assert!(
            found == wanted,
            "{file} is out of date: run UPDATE_GENERATED=1 cargo test -p galaxy-push-proto"
        );
    }
}

fn generate(out: &Path) {
    let mut descriptors = protox::compile(["push/v1/push.proto"], [PROTO_ROOT]).unwrap();
    tonic_prost_build::configure()
        .out_dir(out)
        // A `connect` that dials by itself would be a second place that knows about transports.
        .build_transport(false)
        .codec_path("crate::codec::BoundedCodec")
        .client_mod_attribute("push.v1", "#[cfg(feature = \"client\")]")
        .server_mod_attribute("push.v1", "#[cfg(feature = \"server\")]")
        .bytes(".push.v1.Event.data")
        // Ordered maps make encodings deterministic.
        .btree_map(".")
        .compile_fds(descriptors.clone())
        .unwrap();

    // Reflection needs no comments.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(out.join("push_descriptor.bin"), descriptors.encode_to_vec()).unwrap();
}
