import { Dark, Dialog, Quasar } from 'quasar';
import iconSet from 'quasar/icon-set/svg-material-icons.js';
import 'quasar/src/css/index.sass';
import { createApp } from 'vue';
import { resumeSession } from './api/session.ts';
import App from './app/App.vue';
import { router } from './app/router.ts';
import { readPreferences } from './composables/preferences.ts';
import { i18n, switchLanguage } from './i18n/index.ts';
import './styles/app.scss';

// The server's answer and the frame take their time: both are asked for before the words are there. What fails here
// is asked for again, and told, by who needs it.
void resumeSession().catch(() => undefined);
void import('./app/AppFrame.vue').catch(() => undefined);

const preferences = readPreferences();
const app = createApp(App);
app.use(Quasar, { plugins: { Dark, Dialog }, iconSet, config: { dark: preferences.theme } });
app.use(i18n);
// After Quasar, which starts in English.
await switchLanguage(preferences.language);
app.use(router);
app.mount('#app');
