
# In a codespace, browsers find the API and the dashboard at these addresses.
if [ -n "$CODESPACE_NAME" ]; then
  domain=${GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN:-app.github.dev}
  export PUBLIC_URL="https://$CODESPACE_NAME-8000.$domain,https://$CODESPACE_NAME-8501.$domain"
fi
