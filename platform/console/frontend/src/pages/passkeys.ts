// Forms that a passkey answers: the browser makes or uses one, and the form is sent with what it says.
import { all, need } from "../dom";
import { t } from "../words";

interface Descriptor {
  id: string;
  type: PublicKeyCredentialType;
  transports?: AuthenticatorTransport[];
}

interface Options {
  challenge: string;
  user?: { id: string; name: string; displayName: string };
  excludeCredentials?: Descriptor[];
  allowCredentials?: Descriptor[];
}

function bytes(text: string): ArrayBuffer {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (sign) => sign.charCodeAt(0)).buffer;
}

function text(buffer: ArrayBuffer | null): string | null {
  if (!buffer) return null;
  const plain = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

function descriptors(given: Descriptor[] = []): PublicKeyCredentialDescriptor[] {
  return given.map((one) => ({ ...one, id: bytes(one.id) }));
}

async function create(given: Options): Promise<object> {
  const publicKey = {
    ...given,
    challenge: bytes(given.challenge),
    user: { ...given.user, id: bytes(given.user?.id ?? "") },
    excludeCredentials: descriptors(given.excludeCredentials),
  } as PublicKeyCredentialCreationOptions;
  const made = (await navigator.credentials.create({ publicKey })) as PublicKeyCredential;
  const response = made.response as AuthenticatorAttestationResponse;
  return said(made, {
    clientDataJSON: text(response.clientDataJSON),
    attestationObject: text(response.attestationObject),
    transports: response.getTransports(),
  });
}

async function use(given: Options): Promise<object> {
  const publicKey = {
    ...given,
    challenge: bytes(given.challenge),
    allowCredentials: descriptors(given.allowCredentials),
  } as PublicKeyCredentialRequestOptions;
  const used = (await navigator.credentials.get({ publicKey })) as PublicKeyCredential;
  const response = used.response as AuthenticatorAssertionResponse;
  return said(used, {
    clientDataJSON: text(response.clientDataJSON),
    authenticatorData: text(response.authenticatorData),
    signature: text(response.signature),
    userHandle: text(response.userHandle),
  });
}

function said(credential: PublicKeyCredential, response: object): object {
  return { id: credential.id, rawId: text(credential.rawId), type: credential.type, response, clientExtensionResults: {} };
}

function reason(error: unknown): string {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "InvalidStateError") return t("This device has a passkey of yours already.");
  if (name === "SecurityError") return t("Passkeys belong to another address of this installation. Ask your administrator for it.");
  return t("It was cancelled, or took too long. Try again.");
}

function start(form: HTMLFormElement): void {
  const field = need<HTMLInputElement>("[name=credential]", form);
  const problem = need<HTMLElement>("[data-passkey-problem]", form);
  const options = JSON.parse(form.dataset.options ?? "{}") as Options;
  const ask = async () => {
    problem.hidden = true;
    try {
      if (!window.PublicKeyCredential) throw new DOMException("", "SecurityError");
      field.value = JSON.stringify(await (form.dataset.passkey === "create" ? create(options) : use(options)));
      form.requestSubmit();
    } catch (error) {
      problem.textContent = reason(error);
      problem.hidden = false;
    }
  };
  form.addEventListener("submit", (event) => {
    if (field.value) return;
    event.preventDefault();
    void ask();
  });
  if ("startNow" in form.dataset) void ask();
}

for (const form of all<HTMLFormElement>("form[data-passkey]")) start(form);
