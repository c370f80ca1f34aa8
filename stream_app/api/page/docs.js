"use strict";
// Draws /openapi.json. A script of the page itself would be refused by the Content-Security-Policy.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#operations", deepLinking: true, validatorUrl: null });
