// The JavaScript client of Socket.IO, for the tests. Prints one line of JSON a client.
//
//     node socketio_client.js URL echo TRANSPORTS CLIENTS    three times: connect, echo, disconnect
//     node socketio_client.js URL stay TRANSPORTS CLIENTS    until its input ends: echo all the time
"use strict";
const { io } = require("socket.io-client");
const crypto = require("node:crypto");

const [url, what, transports, clients] = process.argv.slice(2);
const options = { transports: transports.split(","), forceNew: true, reconnectionDelay: 100 };
const once = (emitter, event) => new Promise(resolve => emitter.once(event, resolve));

async function echo() {
  const told = { workers: [], errors: [], transports: [] };
  const socket = io(url, { ...options, autoConnect: false });
  socket.on("connect_error", error => told.errors.push(String(error)));
  for (let turn = 0; turn < 3; turn++) {
    const hello = once(socket, "hello");
    socket.connect();
    const { worker } = await hello;
    for (const data of ["text", crypto.randomBytes(1_000_000)]) {
      const answer = await socket.timeout(20_000).emitWithAck("echo", data);
      const same = Buffer.isBuffer(data) ? data.equals(answer.data) : data === answer.data;
      if (!same || answer.worker !== worker) told.errors.push(`${worker}: ${answer.worker}, ${same}`);
    }
    told.workers.push(worker);
    told.transports.push(socket.io.engine.transport.name);
    socket.disconnect();
  }
  return told;
}

async function stay(ended) {
  const told = { workers: [], errors: [], left: [], answers: 0, late: 0 };
  const socket = io(url, options);
  socket.on("connect_error", error => told.errors.push(String(error)));
  socket.on("connect_error", () => console.error("refused"));
  socket.on("hello", ({ worker, sid }) => told.workers.push(sid.split(".")[1]));
  socket.on("disconnect", reason => told.left.push(reason));
  while (!ended()) {
    await socket.timeout(5000).emitWithAck("echo", "text").then(() => told.answers++, () => told.late++);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  told.connected = socket.connected;
  socket.disconnect();
  return told;
}

let over = false;
process.stdin.on("end", () => { over = true; }).resume();
const scenario = what === "echo" ? echo : () => stay(() => over);
Promise.all(Array.from({ length: Number(clients) }, scenario)).then(all => {
  for (const told of all) console.log(JSON.stringify(told));
  process.exit(0);
});
