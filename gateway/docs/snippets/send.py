import base64, hashlib, hmac, os, time, urllib.error, urllib.request, uuid


def sign(secret, id, timestamp, payload):
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{id}.{timestamp}.".encode() + payload, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


body = os.environ["WXRELAY_BODY"].encode()
id, timestamp = f"req_{uuid.uuid4()}", int(time.time())  # keep the id: the same id again gets the same answer
request = urllib.request.Request(os.environ["WXRELAY_URL"], body, {
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": str(timestamp),
    "webhook-signature": sign(os.environ["WXRELAY_SECRET"], id, timestamp, body),
})
try:
    with urllib.request.urlopen(request) as response:
        print(response.status, response.read().decode())
except urllib.error.HTTPError as e:
    raise SystemExit(f"{e.code} {e.read().decode()}")
