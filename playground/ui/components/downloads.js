const fault = element.querySelector(".fault");

function enable() {
  for (const button of element.querySelectorAll("button")) button.disabled = !props.value;
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) takeFile(button, fault, () => server.file([props.value, button.dataset.kind]));
});
if (isShown("captions") && element.querySelector("[data-kind=svg]")) {
  keepCaption(element.querySelector(".downloads"), (kind) => server.file([props.value, kind]));
}
watch("value", enable);
enable();
