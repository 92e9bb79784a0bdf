<?php
function sign(string $secret, string $id, int $timestamp, string $payload): string {
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret));
    return 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$payload", $key, true));
}

$body = getenv('WXRELAY_BODY');
$id = 'req_' . bin2hex(random_bytes(12)); // keep it: the same id again gets the same answer
$timestamp = time();
$context = stream_context_create(['http' => [
    'method' => 'POST',
    'ignore_errors' => true,
    'content' => $body,
    'header' => [
        'content-type: application/json',
        "webhook-id: $id",
        "webhook-timestamp: $timestamp",
        'webhook-signature: ' . sign(getenv('WXRELAY_SECRET'), $id, $timestamp, $body),
    ],
]]);
$answer = file_get_contents(getenv('WXRELAY_URL'), false, $context);
echo $http_response_header[0], "\n", $answer, "\n";
exit(str_contains($http_response_header[0], ' 202') ? 0 : 1);
