// The console's script. Pages work as plain forms and links; this adds what those cannot do.
import htmx from "htmx.org";
import { startAudits } from "./audits";
import { sendNow, startConfirmations } from "./dialogs";
import { startCopyButtons } from "./copy";
import { startFilters } from "./filters";
import { startImports } from "./imports";
import { startJobLog } from "./joblog";
import { startJobs } from "./jobs";
import { startMoments } from "./moments";
import { startMenu } from "./navigation";
import { startNotices } from "./notices";
import { startPreviews } from "./previews";
import { startReview } from "./review";
import { startSearch } from "./search";
import { startSelection } from "./selection";
import { startUploads } from "./uploads";

startMoments();
startMenu();
startNotices();
startConfirmations(document);
startCopyButtons();
startJobLog();
startJobs(document);
startFilters();
startPreviews();
startReview();
startSearch();
startSelection();
startUploads();
startImports();
startAudits();
sendNow();

htmx.onLoad((element) => {
  const root = element as HTMLElement;
  startConfirmations(root);
  startJobs(root);
});
