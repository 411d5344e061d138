const fault = element.querySelector(".fault");

function enable() {
  for (const button of element.querySelectorAll("button")) button.disabled = !props.value;
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) takeFile(button, fault, () => server.file([props.value, button.dataset.kind]));
});
watch("value", enable);
enable();
