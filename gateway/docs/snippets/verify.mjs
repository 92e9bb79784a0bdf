import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";

// body is a Buffer with the bytes as they came, before any JSON parser
function verify(secret, headers, body, now = Date.now() / 1000) {
  const id = headers["webhook-id"], timestamp = headers["webhook-timestamp"];
  if (!(Math.abs(now - Number(timestamp)) <= 300)) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const want = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  return headers["webhook-signature"].split(" ").some((given) => { // several while a secret rotates
    const [version, value] = given.split(",");
    const got = Buffer.from(value ?? "", "base64");
    return version === "v1" && got.length === want.length && timingSafeEqual(got, want);
  });
}

const e = process.env;
const headers = { "webhook-id": e.WEBHOOK_ID, "webhook-timestamp": e.WEBHOOK_TIMESTAMP, "webhook-signature": e.WEBHOOK_SIGNATURE };
process.exit(verify(e.WEBHOOK_SECRET, headers, readFileSync(0), e.WEBHOOK_NOW && Number(e.WEBHOOK_NOW)) ? 0 : 1);
