# WXRELAY_URL=https://your.host/v1/partners/orders/messages  WXRELAY_SECRET=whsec_...  WXRELAY_BODY='{"app":...}'
id="req_$(date +%s)_$$"
ts=$(date +%s)
key=$(printf '%s' "${WXRELAY_SECRET#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
sig=$(printf '%s' "$id.$ts.$WXRELAY_BODY" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
curl -sS --fail-with-body "$WXRELAY_URL" -H 'content-type: application/json' -H "webhook-id: $id" \
  -H "webhook-timestamp: $ts" -H "webhook-signature: v1,$sig" --data-binary "$WXRELAY_BODY"
