import { createHmac, randomUUID } from "node:crypto";

function sign(secret, id, timestamp, payload) {
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  return "v1," + createHmac("sha256", key).update(`${id}.${timestamp}.${payload}`).digest("base64");
}

const { WXRELAY_URL, WXRELAY_SECRET, WXRELAY_BODY } = process.env;
const id = "req_" + randomUUID(); // keep it: the same id again gets the same answer
const timestamp = Math.floor(Date.now() / 1000);
const response = await fetch(WXRELAY_URL, {
  method: "POST",
  headers: {
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": String(timestamp),
    "webhook-signature": sign(WXRELAY_SECRET, id, timestamp, WXRELAY_BODY),
  },
  body: WXRELAY_BODY,
});
console.log(response.status, await response.text());
process.exit(response.ok ? 0 : 1);
