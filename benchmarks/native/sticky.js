// @socket.io/sticky: node sticky.js PORT. Two workers; the same answers as the twisted.web site's.
const cluster = require("cluster");
const { createServer } = require("http");
const { randomBytes } = require("crypto");
const zlib = require("zlib");
const { setupPrimary, setupWorker } = require("@socket.io/sticky");
const { Server } = require("socket.io");

if (cluster.isPrimary) {
  cluster.setupPrimary({ serialization: "advanced" }); // a chunk is a buffer
  const server = createServer();
  setupPrimary(server, { loadBalancingMethod: "least-connection" });
  cluster.fork();
  cluster.fork();
  server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
} else {
  const large = Buffer.alloc(32 * 1024 * 1024);
  const answer = (response, body) => {
    response.setHeader("Content-Length", Buffer.byteLength(body));
    response.end(body);
  };
  const server = createServer((request, response) => {
    if (request.url.startsWith("/mint")) {
      const sid = randomBytes(10).toString("hex");
      process.send({ type: "sticky:connection", data: sid }, () => {
        answer(response, `${process.pid} ${sid}\n`);
      });
    } else if (request.url.startsWith("/upload")) {
      let size = 0, crc = 0;
      request.on("data", (chunk) => {
        size += chunk.length;
        crc = zlib.crc32(chunk, crc);
      });
      request.on("end", () => answer(response, `${process.pid} ${size} ${crc}\n`));
    } else if (request.url.startsWith("/large")) {
      answer(response, large);
    } else if (request.url.startsWith("/hello")) {
      answer(response, `${process.pid} says hello\n`);
    }
  });
  const io = new Server(server);
  setupWorker(io);
  io.on("connection", (socket) => socket.on("echo", (data) => socket.emit("echo", data)));
  const { WebSocketServer } = require("ws");
  const echo = new WebSocketServer({ noServer: true });
  server.prependListener("upgrade", (request, socket, head) => {
    if (request.url.startsWith("/ws"))
      echo.handleUpgrade(request, socket, head, (client) => {
        client.send(String(process.pid));
        client.on("message", (data, binary) => client.send(data, { binary }));
      });
  });
}
