// The embedded data. All of it is untrusted text.

const summary = JSON.parse(document.getElementById("summary-data").textContent);
const documents = JSON.parse(document.getElementById("documents-data").textContent);
