# Verifies an attestation of arena8 with python3-cryptography alone: python3 attest.py ENVELOPE.json KEY.pub NONCE
# An in-toto Statement in a DSSE envelope, signed with the Ed25519 key of the audit log. Prints what it says, or ends with an error.
import base64, json, sys
from cryptography.hazmat.primitives.serialization import load_pem_public_key

envelope = json.load(open(sys.argv[1]))
payload, kind = base64.b64decode(envelope["payload"], validate=True), envelope["payloadType"].encode()
message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
key = load_pem_public_key(open(sys.argv[2], "rb").read())
key.verify(base64.b64decode(envelope["signatures"][0]["sig"], validate=True), message)  # raises InvalidSignature
statement = json.loads(payload)
assert statement["predicateType"] == "https://arena8.invalid/attestation/v1", "not an attestation"
assert statement["predicate"]["nonce"] == sys.argv[3], "an old attestation, or another's: the nonce differs"
for subject in statement["subject"]:
    print(subject["name"], subject["digest"]["sha256"])
