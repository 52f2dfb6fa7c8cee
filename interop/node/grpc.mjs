// grpc-js and the contract, loaded from the proto, now. Used by every other file here.
//
// The packages are not installed beside this file: INTEROP_NODE_MODULES says where they are, PROTO where the contract is.

import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.env.INTEROP_NODE_MODULES, "of-the-tools"));

export const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");

const AS_THE_PROTO_SAYS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const contract = protoLoader.loadSync("push/v1/push.proto", {
  ...AS_THE_PROTO_SAYS,
  includeDirs: [process.env.PROTO],
});
export const { Push, Publisher } = grpc.loadPackageDefinition(contract).push.v1;

// The few messages of other contracts that are read or written here, with the numbers they have there.
const others = protobuf.parse(
  `syntax = "proto3";
   message Any { string type_url = 1; bytes value = 2; }
   message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
   message ErrorInfo { string reason = 1; string domain = 2; }
   message HealthCheckRequest { string service = 1; }
   message HealthCheckResponse { int32 status = 1; }
   message ReflectionRequest { string list_services = 7; }
   message ReflectionResponse { Services list_services_response = 6; }
   message Services { repeated Service service = 1; }
   message Service { string name = 1; }`,
  { keepCase: true },
).root;

/** A type by its name, with what a grpc-js client needs of it. */
export function type(name) {
  const found = others.lookupType(name);
  return {
    serialize: (fields) => Buffer.from(found.encode(found.create(fields)).finish()),
    deserialize: (bytes) => found.toObject(found.decode(bytes), { defaults: true }),
  };
}

/** The google.rpc.ErrorInfo of a failed call, or undefined. */
export function errorInfo(error) {
  const [encoded] = error.metadata.get("grpc-status-details-bin");
  const details = encoded ? type("Status").deserialize(encoded).details : [];
  const detail = details.find((any) => any.type_url.endsWith("/google.rpc.ErrorInfo"));
  return detail && type("ErrorInfo").deserialize(detail.value);
}
