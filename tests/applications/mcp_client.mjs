// Some sessions at once of the MCP SDK's client: node mcp_client.mjs MODULES URL HOW-MANY
import { pathToFileURL } from "node:url";

const [modules, url, count] = process.argv.slice(2);
const sdk = (name) => import(pathToFileURL(`${modules}/@modelcontextprotocol/sdk/dist/esm/${name}.js`));
const { Client } = await sdk("client/index");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp");

async function session() {
  const client = new Client({ name: "test", version: "1" });
  const transport = new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  const told = [];
  for (let call = 0; call < 5; call++) {
    const answer = await client.callTool({ name: "count", arguments: {} });
    told.push(answer.content[0].text);
  }
  await transport.terminateSession();
  await client.close();
  return told;
}

console.log(JSON.stringify(await Promise.all(Array.from({ length: Number(count) }, session))));
process.exit(0);
