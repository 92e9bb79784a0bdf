import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Verify {
    // body: the bytes as they came, before any JSON parser
    static boolean verify(String secret, String id, String timestamp, String signatures, byte[] body, long now) throws Exception {
        if (Math.abs(now - Long.parseLong(timestamp)) > 300) {
            return false;
        }
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(Base64.getDecoder().decode(secret.replaceFirst("^whsec_", "")), "HmacSHA256"));
        mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        byte[] want = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes(StandardCharsets.UTF_8);
        for (String given : signatures.split(" ")) { // several while a secret rotates
            if (MessageDigest.isEqual(want, given.getBytes(StandardCharsets.UTF_8))) {
                return true;
            }
        }
        return false;
    }

    public static void main(String[] args) throws Exception {
        String at = System.getenv("WEBHOOK_NOW");
        long now = at == null ? System.currentTimeMillis() / 1000 : Long.parseLong(at);
        System.exit(verify(System.getenv("WEBHOOK_SECRET"), System.getenv("WEBHOOK_ID"), System.getenv("WEBHOOK_TIMESTAMP"),
            System.getenv("WEBHOOK_SIGNATURE"), System.in.readAllBytes(), now) ? 0 : 1);
    }
}
