// Forms that a passkey answers: the browser makes or uses one, and the form is sent with what it says.
import { all, need } from "../dom";
import { t } from "../words";

type Options = PublicKeyCredentialCreationOptionsJSON & PublicKeyCredentialRequestOptionsJSON;

async function create(given: Options): Promise<Credential | null> {
  return navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(given) });
}

async function use(given: Options): Promise<Credential | null> {
  return navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(given) });
}

/** Why no passkey can be used on this page, or nothing. */
function obstacle(form: HTMLFormElement): string {
  const origin = form.dataset.origin ?? "";
  if (origin !== location.origin) return t("Passkeys work at {address} only. Open Crosslight there.", { address: origin });
  // Browsers leave it out without HTTPS, too, and older ones do not read options from JSON.
  const known = window.PublicKeyCredential && "parseCreationOptionsFromJSON" in PublicKeyCredential;
  return known ? "" : t("This browser cannot use passkeys here. They need HTTPS and an up-to-date browser.");
}

function reason(error: unknown): string {
  const known = error instanceof DOMException && error.name === "InvalidStateError";
  return known ? t("This device has a passkey of yours already.") : t("It was cancelled, or took too long. Try again.");
}

function start(form: HTMLFormElement): void {
  const field = need<HTMLInputElement>("[name=credential]", form);
  const problem = need<HTMLElement>("[data-passkey-problem]", form);
  const options = JSON.parse(form.dataset.options ?? "{}") as Options;
  const say = (said: string) => {
    problem.textContent = said;
    problem.hidden = !said;
  };
  const ask = async () => {
    say(obstacle(form));
    if (!problem.hidden) return;
    try {
      field.value = JSON.stringify(await (form.dataset.passkey === "create" ? create(options) : use(options)));
      form.requestSubmit();
    } catch (error) {
      say(reason(error));
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
