// What the page shows, as the program wrote it: all of it is text from elsewhere.

const summary = JSON.parse(document.getElementById("summary-data").textContent);
const documents = JSON.parse(document.getElementById("documents-data").textContent);
