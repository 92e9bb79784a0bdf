# The body on standard input, the three headers and the secret in the environment. Exit 0 = genuine.
now=${WEBHOOK_NOW:-$(date +%s)}
age=$((now - WEBHOOK_TIMESTAMP))
[ "${age#-}" -le 300 ] || { echo "the timestamp is stale" >&2; exit 1; }
key=$(printf '%s' "${WEBHOOK_SECRET#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
want=$({ printf '%s' "$WEBHOOK_ID.$WEBHOOK_TIMESTAMP."; cat; } |
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
for given in $WEBHOOK_SIGNATURE; do # several while a secret rotates
  [ "$given" = "v1,$want" ] && exit 0
done
echo "the signature does not hold" >&2; exit 1
