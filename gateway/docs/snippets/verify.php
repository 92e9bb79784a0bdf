<?php
// $body: the bytes as they came (php://input), before json_decode
function verify(string $secret, string $id, string $timestamp, string $signatures, string $body, ?int $now = null): bool {
    if (abs(($now ?? time()) - (int) $timestamp) > 300) {
        return false;
    }
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret));
    $want = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    foreach (explode(' ', $signatures) as $given) { // several while a secret rotates
        if (hash_equals($want, $given)) {
            return true;
        }
    }
    return false;
}

$now = getenv('WEBHOOK_NOW');
exit(verify(getenv('WEBHOOK_SECRET'), getenv('WEBHOOK_ID'), getenv('WEBHOOK_TIMESTAMP'), getenv('WEBHOOK_SIGNATURE'),
    file_get_contents('php://stdin'), $now ? (int) $now : null) ? 0 : 1);
