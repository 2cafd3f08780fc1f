// Shows this gateway's own document. `validatorUrl: null` keeps it from asking anybody else.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  validatorUrl: null,
  queryConfigEnabled: false,
  onComplete: () => {
    document.documentElement.dataset.ready = "yes";
  },
});
