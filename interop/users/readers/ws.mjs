// npm `ws`, which leaves reconnecting to the program: the last cursor goes into the next `connect`.

import WebSocket from "ws";

export function read(edge, tell) {
  let [socket, cursor, over] = [undefined, "oldest", false];
  const connect = () => {
    socket = new WebSocket(`${edge.replace("http", "ws")}/v1/ws`, "push.v1.json");
    socket.on("open", () => socket.send(JSON.stringify({ connect: { user: "42", cursor } })));
    socket.on("message", (data) => {
      tell("", data.toString());
      cursor = JSON.parse(data).cursor || cursor;
    });
    socket.on("error", () => {}); // `close` follows
    socket.on("close", () => over || setTimeout(connect, 300));
  };
  connect();
  return () => {
    over = true;
    socket.terminate();
  };
}
