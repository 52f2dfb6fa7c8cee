// Health, reflection and the end of a hub. SCENES.md says what each scene must show.

import { CALL_MS, equal, holds, idsUntilCaughtUp, isStatus, refused, rest } from "../checks.mjs";
import { Frames, over } from "../gateway.mjs";
import { grpc, type } from "../grpc.mjs";

// The numbers of grpc.health.v1.HealthCheckResponse.ServingStatus.
const [SERVING, NOT_SERVING, SERVICE_UNKNOWN] = [1, 2, 3];
const HEALTH = "/grpc.health.v1.Health";

const within = () => ({ deadline: Date.now() + CALL_MS });
const health = [type("HealthCheckRequest").serialize, type("HealthCheckResponse").deserialize];

async function health_is_served(stage) {
  const client = over(grpc.Client, stage.channel((await stage.startHub()).address));
  const status = (service) =>
    new Promise((resolve, reject) => {
      const answered = (error, answer) => (error ? reject(error) : resolve(answer.status));
      client.makeUnaryRequest(`${HEALTH}/Check`, ...health, { service }, within(), answered);
    });
  for (const service of ["", "push.v1.Push", "push.v1.Publisher"]) equal(await status(service), SERVING);
  await refused(() => status("push.v1.Nothing"), "NOT_FOUND");
}

async function health_can_be_watched(stage) {
  const hub = await stage.startHub();
  const client = over(grpc.Client, stage.channel(hub.address));
  const watch = (service) => new Frames(client.makeServerStreamRequest(`${HEALTH}/Watch`, ...health, { service }, within()));
  const [known, unknown] = [watch("push.v1.Push"), watch("push.v1.Nothing")];
  equal([(await known.next()).status, (await unknown.next()).status], [SERVING, SERVICE_UNKNOWN]);
  const ended = hub.terminate();
  equal((await known.next()).status, NOT_SERVING);
  equal(await ended, 0);
}

async function reflection_lists_the_services(stage) {
  const client = over(grpc.Client, stage.channel((await stage.startHub()).address));
  // The two versions have the same messages; only the name of the service differs.
  for (const version of ["v1", "v1alpha"]) {
    const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
    const call = client.makeBidiStreamRequest(path, type("ReflectionRequest").serialize, type("ReflectionResponse").deserialize, within());
    call.end({ list_services: "*" });
    const { list_services_response: services } = await new Frames(call).next();
    const names = services.service.map(({ name }) => name);
    for (const name of ["push.v1.Push", "push.v1.Publisher", "grpc.health.v1.Health"]) {
      holds(names.includes(name), `${version} does not list ${name}, only ${names}`);
    }
  }
}

async function draining_says_goodbye(stage) {
  const hub = await stage.startHub();
  const published = await stage.publish(stage.publisher(hub), 2);
  const frames = stage.stream(stage.client("old-gateway", "oldest"), hub.address);
  await idsUntilCaughtUp(frames);
  const ended = hub.terminate();
  const { all, error } = await rest(frames);
  isStatus(error, "UNAVAILABLE", "DRAINING");
  const { kind, cursor, goodbye } = all.at(-1);
  equal([kind, cursor], ["goodbye", published[1].cursor]);
  equal([goodbye.reason, goodbye.reconnect], ["GOODBYE_REASON_DRAINING", true]);
  equal(await ended, 0);
}

export const SCENES = [health_is_served, health_can_be_watched, reflection_lists_the_services, draining_says_goodbye];
