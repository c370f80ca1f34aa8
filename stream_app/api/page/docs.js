"use strict";
// Draws /openapi.json. A script of the page itself would be refused by the Content-Security-Policy.
// Deep links would be links inside of buttons, which screen readers cannot reach.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#operations", deepLinking: false, validatorUrl: null });
// Examples and answers scroll: the keyboard has to reach them.
new MutationObserver(() => {
  for (const text of document.querySelectorAll("pre.microlight:not([tabindex])")) text.tabIndex = 0;
}).observe(document.getElementById("operations"), { childList: true, subtree: true });
